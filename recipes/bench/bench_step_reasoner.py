"""Speed and memory of StepReasoner against a decoder-only Qwen2 of the same width, depth and blocks, in one run.

    python recipes/bench/bench_step_reasoner.py --threads 2 --json bench.json

Both sides see the same random ids: a prompt, then a chain of steps of `--step_tokens`, each ending with a boundary
token (and, with `--trigger_every n`, a trigger after every n tokens inside a step). The measurements alternate between
the sides, and medians are compared.

- train: tokens of the chain a second, forward, backward and AdamW step; the head and the loss on the chain only.
- decode: greedy `generate` with the cache, tokens a second after the first. Random weights would hardly ever end a
  step, so a logits processor forces the chain's ids, on both sides.
- cache: bytes of keys and values once the chain is written (without buffers held in reserve).
- memory: what training adds to a fresh process, in a process for each side.
"""

import argparse
import random
import statistics
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import common
import torch
from common import now
from transformers import LogitsProcessor, LogitsProcessorList, Qwen2Config, Qwen2ForCausalLM

from hf_reason.models import StepReasonerConfig, StepReasonerForCausalLM

SIDES = ("decoder-only", "StepReasoner")
PAD, THINK, BOUNDARY, TRIGGER, FIRST = 0, 1, 2, 3, 4
# what the ratio StepReasoner / decoder-only should reach at the default sizes
AIMS = {"train tok/s": ">= 1.8", "decode tok/s, batch 1": ">= 3.5", "decode tok/s, batch 16": ">= 2.5"}
AIMS |= {f"cache MB, batch {batch}": "<= 0.5" for batch in (1, 16)}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = common.parser(__doc__)
    common.add_timing_options(parser)
    add = parser.add_argument
    add(
        "--layers",
        type=int,
        nargs=3,
        default=[12, 6, 3],
        help="Encoder, reasoner, decoder; their sum on the other side.",
    )
    add("--hidden_size", type=int, default=512)
    add("--intermediate_size", type=int, default=2816)
    add("--heads", type=int, default=8)
    add("--kv_heads", type=int, default=2)
    add("--vocab_size", type=int, default=32000)
    add("--prompt_tokens", type=int, default=128)
    add("--chain_tokens", type=int, default=512)
    add("--step_tokens", type=int, nargs=2, default=[20, 40], help="Shortest and longest step.")
    add("--trigger_every", type=int, default=0, help="Tokens from trigger to trigger inside a step; 0: none.")
    add("--plan_slots", type=int, default=0)
    add("--decoder_window", type=int, default=0, help="Own tokens that the decoder keeps; 0: all of the chain.")
    add("--train_batch", type=int, default=4)
    add("--decode_batch", type=int, nargs="*", default=[1, 16])
    add("--device", default="cpu")
    add("--dtype", default="float32", choices=["float32", "bfloat16"])
    add("--attention", default="sdpa", help="attn_implementation of both sides.")
    add("--seed", type=int, default=0)
    add("--peak", choices=SIDES, help=argparse.SUPPRESS)  # what a memory process measures
    return parser.parse_args(arguments)


def build(side: str, args: argparse.Namespace) -> Any:
    torch.manual_seed(args.seed)
    same = {
        "vocab_size": args.vocab_size,
        "hidden_size": args.hidden_size,
        "num_attention_heads": args.heads,
        "intermediate_size": args.intermediate_size,
        "num_key_value_heads": args.kv_heads,
        "pad_token_id": PAD,
        "tie_word_embeddings": True,
        "attn_implementation": args.attention,
        "max_position_embeddings": args.prompt_tokens + args.chain_tokens,
    }
    if side == "decoder-only":
        model: Any = Qwen2ForCausalLM(Qwen2Config(num_hidden_layers=sum(args.layers), **same))
    else:
        stacks = zip(("encoder", "reasoner", "decoder"), args.layers, strict=True)
        config = StepReasonerConfig(
            **{f"num_{name}_layers": count for name, count in stacks},
            thought_start_token_ids=[THINK],
            boundary_token_ids=[BOUNDARY],
            trigger_token_ids=[TRIGGER],
            plan_slots=args.plan_slots,
            decoder_window=args.decoder_window,
            use_qk_norm=False,  # as in Qwen2
            **same,
        )
        model = StepReasonerForCausalLM(config)
    return model.to(args.device, getattr(torch, args.dtype))


def random_ids(batch: int, args: argparse.Namespace) -> torch.Tensor:
    """Prompts and chains, [batch, prompt + chain]; every row has its own steps."""
    rng = random.Random(args.seed + batch)
    rows = []
    for _ in range(batch):
        chain = [THINK]
        while len(chain) < args.chain_tokens:
            step = [rng.randrange(FIRST, args.vocab_size) for _ in range(rng.randint(*args.step_tokens))]
            if args.trigger_every:
                step[args.trigger_every - 1 :: args.trigger_every] = [TRIGGER] * (len(step) // args.trigger_every)
            chain += [*step[:-1], BOUNDARY]
        prompt = [rng.randrange(FIRST, args.vocab_size) for _ in range(args.prompt_tokens)]
        rows.append(prompt + chain[: args.chain_tokens])
    return torch.tensor(rows, device=args.device)


def trainer(model: Any, ids: torch.Tensor, args: argparse.Namespace) -> Callable[[], float]:
    """A function that takes one training step and returns its seconds."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    targets = ids[:, args.prompt_tokens :].flatten()

    def step() -> float:
        start = now(args.device)
        states = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, args.prompt_tokens - 1 : -1]
        torch.nn.functional.cross_entropy(model.lm_head(states).flatten(0, 1).float(), targets).backward()
        optimizer.step()
        optimizer.zero_grad()
        return now(args.device) - start

    return step


class ForcedTokens(LogitsProcessor):
    """Makes the given ids, [batch, new], the only choice; notes when the first and the last logits came."""

    def __init__(self, ids: torch.Tensor, device: str) -> None:
        self.ids, self.device, self.step = ids, device, 0
        self.first = self.last = 0.0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        forced = torch.full_like(scores, -torch.inf).scatter_(1, self.ids[:, self.step, None], 0.0)
        self.step += 1
        if self.step == 1:
            self.first = now(self.device)
        elif self.step == self.ids.shape[1]:
            self.last = now(self.device)
        return forced


@torch.inference_mode()
def decode(model: Any, ids: torch.Tensor, args: argparse.Namespace) -> dict[str, float]:
    """Write the chain after the prompt; tokens/s after the first, seconds to the first, and the cache's bytes."""
    prompt, chain = ids.split([args.prompt_tokens, args.chain_tokens], dim=1)
    forced = ForcedTokens(chain, args.device)
    start = now(args.device)
    output = model.generate(
        input_ids=prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=chain.shape[1],
        do_sample=False,
        use_cache=True,
        eos_token_id=None,
        return_dict_in_generate=True,
        logits_processor=LogitsProcessorList([forced]),
    )
    if not torch.equal(output.sequences, ids):
        raise RuntimeError("generate did not write the chain that was forced on it.")
    cache = output.past_key_values
    held = cache.nbytes() if hasattr(cache, "nbytes") else sum(x.keys.nbytes + x.values.nbytes for x in cache.layers)
    speed = len(ids) * (chain.shape[1] - 1) / (forced.last - forced.first)
    return {"speed": speed, "first": forced.first - start, "cache": held / 1e6}


def measure_peak(side: str, args: argparse.Namespace) -> float:
    """MB that weights, optimizer and two training steps add to this process."""
    before = common.peak_mb(args.device)
    step = trainer(build(side, args).train(), random_ids(args.train_batch, args), args)
    step()
    step()
    return common.peak_mb(args.device) - before


def run(args: argparse.Namespace, command: list[str]) -> dict[str, dict[str, list[float]]]:
    """Every measurement: {name: {side: values}}."""
    # first, before anything is loaded
    peaks = {side: [float(common.in_own_process(__file__, *command, "--peak", side))] for side in SIDES}
    figures: dict[str, dict[str, list[float]]] = {"train peak MB": peaks}
    models = {side: build(side, args) for side in SIDES}
    figures["parameters, M"] = {
        side: [sum(p.numel() for p in model.parameters()) / 1e6] for side, model in models.items()
    }
    for batch in args.decode_batch:
        ids = random_ids(batch, args)
        decoders = {side: partial(decode, model.eval(), ids, args) for side, model in models.items()}
        found = common.alternate(decoders, args.repeats, warm_up=1)
        for name, key in (("decode tok/s", "speed"), ("first token s", "first"), ("cache MB", "cache")):
            figures[f"{name}, batch {batch}"] = {side: [r[key] for r in rows] for side, rows in found.items()}
    ids = random_ids(args.train_batch, args)
    trainers = {side: trainer(model.train(), ids, args) for side, model in models.items()}
    seconds = common.alternate(trainers, args.repeats, warm_up=1)
    tokens = args.train_batch * args.chain_tokens
    figures["train tok/s"] = {side: [tokens / s for s in values] for side, values in seconds.items()}
    return figures


def main(command: list[str] | None = None) -> None:
    command = sys.argv[1:] if command is None else command
    args = parse(command)
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.peak:
        print(measure_peak(args.peak, args))
        return
    figures = run(args, command)
    title = f"{'/'.join(map(str, args.layers))} against {sum(args.layers)} layers, {args.device}, {args.dtype}"
    rows = []
    for name, values in figures.items():
        plain, ours = (statistics.median(values[side]) for side in SIDES)
        cells = (f"{value:,.0f}" if value >= 1000 else f"{value:.3g}" for value in (plain, ours))
        rows.append([name, *cells, f"{ours / plain:.2f}", AIMS.get(name, "")])
    columns = ("median of each", *SIDES, "ratio", "aim")
    common.print_table(f"{title}, {torch.get_num_threads()} thread(s)", columns, rows)
    common.write_json(args.json, args, figures, hidden=["peak"])


if __name__ == "__main__":
    main()
