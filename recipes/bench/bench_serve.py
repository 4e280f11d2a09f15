"""`hf-reason serve` beside plain `transformers serve`: speed at 1, 8 and 32 clients, a warm cache, memory, a kill.

    python recipes/bench/bench_serve.py --model_name_or_path outputs/demo/demo \\
        --step_reasoner outputs/demo/demo_step_reasoner
    python recipes/bench/bench_serve.py --model_name_or_path outputs/demo/demo --engine generate continuous
    python recipes/bench/bench_serve.py --model_name_or_path outputs/demo/demo --parts soak --soak_minutes 60
    python recipes/bench/bench_serve.py --model_name_or_path outputs/demo/demo --parts kill \\
        --arrangements embedded nginx ray

All sides get the same problems, greedily, with the same `max_tokens`, streamed. One server runs at a time: each is
started, asked a few questions, measured at all numbers of clients, and stopped; then the next, in alternating order,
`--repeats` times. Medians are printed, and the ratios of each side to both kinds of `transformers serve`. A
StepReasoner is served by `hf-reason serve` alone: its model is not in transformers. `transformers serve` needs
transformers' extra `serving`.
"""

import argparse
import itertools
import math
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from common import add_timing_options, medians, parser, print_markdown, write_json
from serve_kill import ARRANGEMENTS, REPLICAS, kill_row, kill_under_load
from serve_load import Load, Running, ask, ours, questions_from, run_load, transformers_serve

PARTS = ("speed", "cache", "soak", "kill")
PLAIN, CONTINUOUS = "transformers serve", "transformers serve, continuous batching"
_WARM_UP = 3
_PERIODS = 6  # of a soak
Sides = Mapping[str, Callable[[], AbstractContextManager[Running]]]


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    options = parser(__doc__)
    add_timing_options(options, repeats=3)
    options.add_argument("--model_name_or_path", required=True, help="Folder of the decoder-only model.")
    options.add_argument("--step_reasoner", help="Folder of a StepReasoner that is measured beside it.")
    options.add_argument("--engine", nargs="+", default=["generate"], help="Engines of hf-reason serve.")
    options.add_argument("--parts", nargs="+", choices=PARTS, default=["speed", "cache"], help="What is measured.")
    options.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    options.add_argument("--requests", type=int, default=64, help="Of a measurement; at least two for each client.")
    options.add_argument("--max_tokens", type=int, default=160, help="Of thought and answer together.")
    options.add_argument("--dtype", default="float32", help="Of the weights, on all sides.")
    options.add_argument("--questions", help="File of problems. Default: generated word problems.")
    options.add_argument(
        "--transformers",
        nargs="*",
        choices=("plain", "continuous"),
        default=["plain", "continuous"],
        help="Its kinds.",
    )
    options.add_argument("--no_transformers", action="store_true", help="Leave transformers serve out.")
    options.add_argument("--transformers_args", default="", help="More arguments of transformers serve.")
    options.add_argument("--port", type=int, default=8765, help="Of transformers serve.")
    options.add_argument("--soak_minutes", type=float, default=60.0, help="Length of the load.")
    options.add_argument("--soak_clients", type=int, default=8, help="Of the hour of load, and of the kill.")
    options.add_argument("--soak_pause", type=float, default=0.0, help="Seconds between a client's requests there.")
    options.add_argument("--kill_seconds", type=float, default=60.0, help="Length of the load; the kill is halfway.")
    options.add_argument(
        "--arrangements", nargs="+", choices=list(ARRANGEMENTS), default=["embedded"], help="Of the kill."
    )
    options.add_argument("--work_dir", type=Path, help="Folder of logs and caches. Default: a temporary one.")
    return options.parse_args(words)


def own_options(args: argparse.Namespace, engine: str, cache: str) -> dict[str, Any]:
    """Of `hf-reason serve`; what is the default needs no option."""
    options = {"cache": cache, "dtype": args.dtype, "max_thought_tokens": args.max_tokens}
    options |= {"max_answer_tokens": args.max_tokens, "max_batch_size": max(args.clients)}
    return options | ({} if engine == "generate" else {"engine": engine})


def sides_of(args: argparse.Namespace, folder: Path, cache: str = "none") -> Sides:
    """Name -> starts its server."""
    made: dict[str, Callable[[], AbstractContextManager[Running]]] = {}
    count = itertools.count()

    def own(model: str, engine: str) -> Callable[[], AbstractContextManager[Running]]:
        options = own_options(args, engine, cache)
        return lambda: ours(model, folder / f"ours-{next(count)}", args.threads, **options)

    def theirs(*words: str) -> Callable[[], AbstractContextManager[Running]]:
        words = (*words, "--dtype", args.dtype, *args.transformers_args.split())
        place = folder / f"transformers-{next(count)}"
        return lambda: transformers_serve(args.model_name_or_path, place, args.threads, args.port, words)

    for engine in args.engine:
        made[f"hf-reason serve, {engine}"] = own(args.model_name_or_path, engine)
    kinds = [] if args.no_transformers else args.transformers
    if "plain" in kinds:
        made[PLAIN] = theirs()
    if "continuous" in kinds:
        made[CONTINUOUS] = theirs("--continuous-batching")
    if args.step_reasoner:
        made["StepReasoner, generate"] = own(args.step_reasoner, "generate")
    return made


def measure_speed(args: argparse.Namespace, sides: Sides) -> dict[int, dict[str, list[dict[str, float]]]]:
    """Clients -> side -> the figures of each repeat."""
    found: dict[int, dict[str, list[dict[str, float]]]] = {
        count: {side: [] for side in sides} for count in args.clients
    }
    for repeat in range(args.repeats):
        order = list(sides) if repeat % 2 == 0 else list(sides)[::-1]
        for side in order:
            with sides[side]() as server:
                warm_up(server, args)
                for count in args.clients:
                    # the same problems on all sides, others at each repeat and number of clients
                    questions = questions_from(args.questions, seed=1000 * repeat + 10 * count)
                    load = run_load(server, questions, count, args.max_tokens, max(args.requests, 2 * count))
                    found[count][side].append(load.figures())
                    tell(side, f"{count} clients", load)
    return found


def warm_up(server: Running, args: argparse.Namespace) -> None:
    """The first requests, which load and compile."""
    questions = questions_from(args.questions, seed=987_000)
    for _ in range(_WARM_UP):
        answer = ask(server, next(questions), args.max_tokens)
        if answer.error:
            raise SystemExit(f"{server.url} does not answer: {answer.error}")


def tell(side: str, what: str, load: Load) -> None:
    """One line on standard error, and why requests failed."""
    figures = load.figures()
    print(
        f"{side}, {what}: {figures['requests']:.2f} requests/s, {figures['tokens']:.0f} tokens/s, "
        f"{figures['failed']:.0f} failed",
        file=sys.stderr,
        flush=True,
    )
    for error in sorted({answer.error for answer in load.answers if answer.error})[:3]:
        print(f"  {error}", file=sys.stderr, flush=True)


def print_speed(found: Mapping[int, Mapping[str, Sequence[Mapping[str, float]]]]) -> None:
    """A table for each number of clients."""
    for count, runs in found.items():
        middle = medians(runs)
        columns = ["side", "requests/s", "tokens/s", "first token, p50", "p95", "answer, p50", "p95"]
        columns += ["tokens an answer", "failed", "memory", f"x {PLAIN}", "x with continuous batching"]
        rows = []
        for side, figures in middle.items():
            cells = [side, f"{figures['requests']:.2f}", f"{figures['tokens']:.0f}"]
            cells += [f"{figures[name]:.2f} s" for name in ("first_p50", "first_p95", "latency_p50", "latency_p95")]
            cells += [f"{figures['mean_tokens']:.0f}", f"{sum(run['failed'] for run in runs[side]):.0f}"]
            cells += [f"{figures['memory_mb']:.0f} MB"]
            cells += [ratio(figures, middle.get(other), "tokens") for other in (PLAIN, CONTINUOUS)]
            rows.append(cells)
        print(f"\n{count} client{'s' if count > 1 else ''}; the ratios are those of tokens/s")
        print_markdown(columns, rows)


def ratio(figures: Mapping[str, float], other: Mapping[str, float] | None, name: str) -> str:
    """How many times the other's figure; `-` without another."""
    if other is None or not other[name] or other is figures:
        return "-"
    return f"{figures[name] / other[name]:.2f}"


def measure_cache(args: argparse.Namespace, folder: Path) -> list[list[str]]:
    """The same problems twice: rows of the first and the second time."""
    rows = []
    cached = sides_of(args, folder / "cached", cache=str(folder / "cache.db"))
    side = f"hf-reason serve, {args.engine[0]}"
    with cached[side]() as server:
        warm_up(server, args)
        for count in args.clients:
            seed, cold = 500_000 + 1000 * count, math.nan
            for what in ("cold", "warm"):
                questions = questions_from(args.questions, seed)
                load = run_load(server, questions, count, args.max_tokens, max(args.requests, 2 * count))
                tell(side, f"{count} clients, {what} cache", load)
                figures = load.figures()
                cells = [str(count), what, f"{figures['requests']:.1f}", f"{1000 * figures['latency_p50']:.1f} ms"]
                cells += [f"{1000 * figures['latency_p95']:.1f} ms", f"{figures['failed']:.0f}"]
                rows.append([*cells, "-" if what == "cold" else f"{cold / figures['latency_p50']:.0f}x"])
                cold = figures["latency_p50"]
    return rows


def measure_soak(args: argparse.Namespace, side: str, start: Callable[[], AbstractContextManager[Running]]) -> Any:
    """Load for a time: minutes and memory of each part, and the requests."""
    samples: list[tuple[float, float]] = []
    answered = failed = 0
    part = max(args.soak_minutes * 60 / 30, 1.0)
    with start() as server:
        warm_up(server, args)
        samples.append((0.0, server.memory_mb()))
        questions, begun = questions_from(args.questions, seed=2_000_000), time.perf_counter()
        while time.perf_counter() - begun < args.soak_minutes * 60:
            load = run_load(server, questions, args.soak_clients, args.max_tokens, seconds=part, pause=args.soak_pause)
            answered += sum(not answer.error for answer in load.answers)
            failed += sum(bool(answer.error) for answer in load.answers)
            samples.append(((time.perf_counter() - begun) / 60, server.memory_mb()))
            tell(side, f"minute {samples[-1][0]:.1f}, {samples[-1][1]:.0f} MB", load)
    return {"samples": samples, "answered": answered, "failed": failed, "growth": growth(samples)}


def growth(samples: Sequence[tuple[float, float]]) -> float:
    """MB an hour after the first sixth of the time, by least squares."""
    late = samples[len(samples) // _PERIODS :]
    if len(late) < 2:
        return math.nan
    return 60 * statistics.linear_regression([time for time, _ in late], [memory for _, memory in late]).slope


def measure_kill(args: argparse.Namespace, folder: Path) -> list[list[str]]:
    """A replica of each arrangement is killed halfway: a row each."""
    rows = []
    for number, name in enumerate(args.arrangements):
        options = own_options(args, args.engine[0], "none")
        place = folder / f"killed-{number}-{name}"
        with ARRANGEMENTS[name](args.model_name_or_path, place, args.threads, **options) as found:
            questions = questions_from(args.questions, seed=3_000_000)
            count = 1 if name == "embedded" else REPLICAS
            load, whole = kill_under_load(
                found, count, questions, args.soak_clients, args.max_tokens, args.kill_seconds
            )
        tell(f"kill, {name}", f"{args.soak_clients} clients", load)
        rows.append(kill_row(name, load, whole))
    return rows


def main() -> None:
    args = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no server outlives it
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.work_dir or Path(temporary)
        figures: dict[str, Any] = {}
        if "speed" in args.parts:
            figures["speed"] = measure_speed(args, sides_of(args, folder))
            print_speed(figures["speed"])
        if "cache" in args.parts:
            figures["cache"] = measure_cache(args, folder)
            print("\nThe same problems twice")
            columns = ["clients", "cache", "requests/s", "answer, p50"]
            print_markdown([*columns, "p95", "failed", "faster, p50"], figures["cache"])
        if "soak" in args.parts:
            sides = sides_of(args, folder / "soak", cache=str(folder / "soak.db"))
            chosen = {side: start for side, start in sides.items() if side not in (PLAIN, CONTINUOUS)}
            figures["soak"] = {side: measure_soak(args, side, start) for side, start in chosen.items()}
            print(f"\n{args.soak_minutes:g} minutes of {args.soak_clients} clients")
            times = [f"minute {args.soak_minutes * part / _PERIODS:.3g}" for part in range(_PERIODS + 1)]
            columns = ["side", "answered", "failed", *times, "MB an hour after the first sixth"]
            print_markdown(columns, [_soak_row(side, run) for side, run in figures["soak"].items()])
        if "kill" in args.parts:
            figures["kill"] = measure_kill(args, folder)
            print(f"\nkill -9 of a replica under the load of {args.soak_clients} clients")
            print_markdown(["servers", "requests", "failed", "longest answer", "until whole"], figures["kill"])
        write_json(args.json, args, figures)


def _soak_row(side: str, run: Mapping[str, Any]) -> list[str]:
    memory = [value for _, value in run["samples"]]
    places = [round(part * (len(memory) - 1) / _PERIODS) for part in range(_PERIODS + 1)]
    cells = [side, str(run["answered"]), str(run["failed"]), *(f"{memory[place]:.0f} MB" for place in places)]
    return [*cells, f"{run['growth']:+.1f}"]


if __name__ == "__main__":
    main()
