"""`prepare` beside Data-Juicer and datatrove on the planted corpus of `bench_prepare.py`, one after another.

    python -m venv dj && dj/bin/pip install "py-data-juicer==1.6.*" aiohttp
    python -m venv dt && dt/bin/pip install "datatrove[io,processing,multilingual]==0.10.*" orjson spacy
    python recipes/bench/bench_prepare_peers.py --records 10000 --data_juicer dj/bin/python --datatrove dt/bin/python

Each peer has an environment of its own. Both are set up for what they can do without a model to download: near
duplicates (Data-Juicer: character 5-grams as `prepare`, 128 permutations, threshold 0.8; datatrove: 5-grams of words,
14 buckets of 8) and loops (Data-Juicer: `character_repetition_filter`; datatrove: the rules of Gopher about lines and
paragraphs). Reading layouts, splitting into steps, the other filters, domains, splits and the report are in the time
of `prepare` alone. Recall is the fraction of a kind that is dropped, precision the fraction of the dropped ones that
were planted. Peak: of the largest process. In its first run Data-Juicer installs what it lacks (torch): run it twice.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import common
from bench_prepare import quality
from prepare_corpus import KINDS, corpus

SIDES = ("hf-reason prepare", "Data-Juicer", "datatrove")


def write_source(folder: Path, records: int, files: int) -> None:
    """The corpus in the layout of each: raw traces, and their text with a number; datatrove's workers take a file."""
    (folder / "texts").mkdir()
    with ExitStack() as stack:

        def create(name: str) -> Any:
            return stack.enter_context(open(folder / name, "w", encoding="utf-8"))

        raw, texts = create("raw.jsonl"), create("all.jsonl")
        parts = [create(f"texts/{part}.jsonl") for part in range(files)]
        for number, trace in enumerate(corpus(records)):
            raw.write(json.dumps(trace, ensure_ascii=False) + "\n")
            line = json.dumps({"id": str(number), "text": "\n".join(trace.values())}, ensure_ascii=False) + "\n"
            texts.write(line)
            parts[number * files // records].write(line)


def juicer_config(folder: Path, workers: int) -> Path:
    """What `dj-process` reads; a JSON file is a YAML file."""
    path = folder / "juicer.yaml"
    process: list[dict[str, Any]] = [
        {"character_repetition_filter": {"rep_len": 10, "max_ratio": 0.5}},
        {
            "document_minhash_deduplicator": {
                "tokenization": "character",
                "window_size": 5,
                "num_permutations": 128,
                "jaccard_threshold": 0.8,
                "ignore_pattern": r"[\p{P}\s]",
            }
        },
    ]
    output = folder / "juicer" / "kept.jsonl"
    settings = {"dataset_path": folder / "all.jsonl", "export_path": output, "np": workers, "text_keys": "text"}
    settings |= {"project_name": "peers", "open_tracer": False, "use_cache": False, "process": process}
    path.write_text(json.dumps(settings, default=str), encoding="utf-8")
    return path


def run_datatrove(folder: str, workers: str) -> None:
    """Its five stages; runs in its own environment."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import (
        MinhashConfig,
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.filters import GopherRepetitionFilter
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter

    place, texts, language, config = f"{folder}/trove", f"{folder}/texts", "zho", MinhashConfig()
    gopher = GopherRepetitionFilter(top_n_grams=(), dup_n_grams=(), language=language)
    stages: list[tuple[list[Any], int]] = [
        (
            [JsonlReader(texts), gopher, JsonlWriter(f"{place}/filtered", "${rank}.jsonl", compression=None)],
            int(workers),
        ),
        (
            [JsonlReader(f"{place}/filtered"), MinhashDedupSignature(f"{place}/signatures", config, language)],
            int(workers),
        ),
        ([MinhashDedupBuckets(f"{place}/signatures", f"{place}/buckets", config=config)], config.num_buckets),
        ([MinhashDedupCluster(f"{place}/buckets", f"{place}/gone", config)], 1),
        (
            [
                JsonlReader(f"{place}/filtered"),
                MinhashDedupFilter(f"{place}/gone"),
                JsonlWriter(f"{place}/kept", "${rank}.jsonl", compression=None),
            ],
            int(workers),
        ),
    ]
    for number, (pipeline, tasks) in enumerate(stages):
        logs = f"{place}/logs/{number}"
        LocalPipelineExecutor(pipeline, tasks, min(tasks, int(workers)), logs, start_method="fork").run()


def run_prepare(folder: str, workers: str) -> None:
    from hf_reason.data import prepare

    prepare(f"{folder}/raw.jsonl", f"{folder}/prepared", num_proc=int(workers), progress=False)


def kept_by(side: str, folder: Path) -> set[int]:
    """Numbers of the traces that a side has kept."""
    if side == SIDES[0]:
        from bench_prepare import kept_rows

        return kept_rows(str(folder / "prepared"))
    where = folder / "juicer" if side == "Data-Juicer" else folder / "trove/kept"
    lines = (line for path in sorted(where.glob("*.jsonl")) for line in path.read_text("utf-8").splitlines())
    return {int(row["id"]) for row in map(json.loads, lines) if "id" in row}


def command_of(side: str, folder: str, workers: str, python: str) -> list[str]:
    """What runs a side, in the environment of that Python."""
    if side == "Data-Juicer":
        return [str(Path(python).with_name("dj-process")), "--config", str(juicer_config(Path(folder), int(workers)))]
    return [python, __file__, f"--run-{common.slug(side)}", folder, workers]


def measured(side: str, folder: str, records: str, workers: str, python: str) -> None:
    """Time a side, the only child of this process, and print what was found."""
    command, log = command_of(side, folder, workers, python), Path(folder, "log")
    start = time.perf_counter()
    with open(log, "wb") as file:
        failed = subprocess.run(command, stdout=file, stderr=file).returncode
    seconds = time.perf_counter() - start
    if failed:
        sys.exit(f"{side} failed:\n{log.read_text('utf-8', errors='replace')[-3000:]}")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = {"seconds": seconds, "cpu": used.ru_utime + used.ru_stime, "peak": used.ru_maxrss / 1024}
    found |= {"rate": int(records) / seconds} | quality(int(records), kept_by(side, Path(folder)))
    print(json.dumps(found))


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--num_proc", type=int, default=2)
    parser.add_argument("--data_juicer", help="Python of an environment with Data-Juicer.")
    parser.add_argument("--datatrove", help="Python of an environment with datatrove.")
    args = parser.parse_args()
    pythons = dict(zip(SIDES, (sys.executable, args.data_juicer, args.datatrove), strict=True))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_source(Path(folder), args.records, args.num_proc)
        for side, python in pythons.items():
            if python:
                words = ("--measure", side, folder, args.records, args.num_proc, python)
                found = common.in_own_process(__file__, *words)
                numbers = [f"{found[key]:,.1f}" for key in ("seconds", "cpu", "rate", "peak")]
                rows.append([side, *numbers, *(f"{found[key]:.1%}" for key in (*KINDS, "precision"))])
    columns = ["seconds", "CPU s", "records/s", "peak MB", *(f"recall: {kind}" for kind in KINDS), "precision"]
    common.print_markdown([f"{args.records:,} records, {args.num_proc} processes", *columns], rows)


# What a process of its own is started with.
INSIDE: dict[str, Callable[..., None]] = {
    "--measure": measured,
    "--run-hf-reason-prepare": run_prepare,
    "--run-datatrove": run_datatrove,
}

if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] in INSIDE:
        INSIDE[sys.argv[1]](*sys.argv[2:])
    else:
        main()
