"""Distillation's speed and memory: DistillKLTrainer against TRL's GKD trainer and against SFT without a teacher.

    python recipes/bench/bench_distill.py --threads 2 --json bench.json

A Qwen2-shaped pair with the real vocabulary and random weights; every side trains on the same random rows, in float32,
with the same batch and AdamW. Each measurement is a process of its own, the sides alternate, and medians are compared:

- GKD: trl.experimental.gkd off-policy (lmbda 0, beta 0), which builds the logits of both models.
- live: DistillKLTrainer with the same teacher, forward KL alone (kl_weight 1, ce_weight 0).
- live, CE: the same with the cross-entropy of the records beside it.
- cache: DistillKLTrainer from a top-k cache of that teacher, with the cross-entropy; no teacher is loaded.
- SFT: CoTSFTTrainer.

tokens/s: all tokens of a batch by the median step after the first; memory: what the process's peak adds to its state
before any model is made (on an accelerator, the peak that the allocator saw).
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from typing import Any

import common
import torch
from datasets import Dataset
from transformers import Qwen2Config, Qwen2ForCausalLM, TrainerCallback

DEVICE = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
SIDES = ("GKD", "live", "live, CE", "cache", "SFT")
# the aims at the default sizes
AIMS = {"live": "speed / GKD >= 1.3, memory / GKD <= 0.35", "cache": "speed / SFT >= 0.9"}


def parse() -> argparse.Namespace:
    parser = common.parser(__doc__)
    common.add_timing_options(parser)
    add = parser.add_argument
    add("--vocab_size", type=int, default=151_936)
    add("--student", type=int, nargs=2, default=[256, 4], metavar=("WIDTH", "LAYERS"))
    add("--teacher", type=int, nargs=2, default=[512, 8], metavar=("WIDTH", "LAYERS"))
    add("--batch", type=int, default=2)
    add("--tokens", type=int, default=512, help="Tokens of a row.")
    add("--prompt_tokens", type=int, default=64)
    add("--steps", type=int, default=4, help="Training steps of a measurement; the first one warms up.")
    add("--top_k", type=int, default=32)
    add("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    add("--measure", choices=SIDES, help=argparse.SUPPRESS)
    add("--cache", help=argparse.SUPPRESS)
    add("--make_cache", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def build(size: list[int], args: argparse.Namespace, seed: int) -> Qwen2ForCausalLM:
    torch.manual_seed(seed)
    width, layers = size
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=args.vocab_size,
            hidden_size=width,
            intermediate_size=3 * width,
            num_hidden_layers=layers,
            num_attention_heads=width // 64,
            num_key_value_heads=max(1, width // 256),
            tie_word_embeddings=True,
            max_position_embeddings=args.tokens,
            eos_token_id=1,
            pad_token_id=0,
            bos_token_id=None,
        )
    )


def rows(args: argparse.Namespace) -> Dataset:
    """Random prompts and chains of steps of 32 tokens, all of one length."""
    generator = torch.Generator().manual_seed(0)
    prompt, chain = args.prompt_tokens, args.tokens - args.prompt_tokens
    found = []
    for number in range(args.batch * (args.steps + 1)):
        ids = torch.randint(2, args.vocab_size, (args.tokens,), generator=generator).tolist()
        ids[-1] = 1
        steps = [place // 32 + 1 for place in range(chain - 16)]
        steps += [steps[-1] + 1] * 16
        found.append(
            {
                "id": str(number),
                "input_ids": ids,
                "labels": [-100] * prompt + ids[prompt:],
                "segment_ids": [0] * prompt + [1] * (chain - 16) + [2] * 16,
                "step_ids": [0] * prompt + steps,
            }
        )
    return Dataset.from_list(found)


class Clock(TrainerCallback):
    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.started = 0.0

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        self.started = common.now(DEVICE)

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.seconds.append(common.now(DEVICE) - self.started)


def tokenizer() -> Any:
    from hf_reason.text import train_tokenizer

    return train_tokenizer(["步骤1:3+4=7\n<think></think>"], vocab_size=300)


def make_cache(args: argparse.Namespace) -> None:
    from hf_reason.teachers import CacheBuilder, CacheSettings, LiveTeacher

    settings = CacheSettings("teacher", "tokenizer", top_k=args.top_k, vocab_size=args.vocab_size)
    teacher = LiveTeacher(build(args.teacher, args, 1).eval(), args.vocab_size)
    builder = CacheBuilder(args.cache, {"train": rows(args)}, teacher, tokenizer(), settings, batch_size=args.batch)
    builder.start()
    builder.build()
    builder.finish()


def measure(side: str, args: argparse.Namespace) -> dict[str, float]:
    """Speed and memory of one side, in this process."""
    from trl.experimental.gkd import GKDConfig, GKDTrainer

    from hf_reason.teachers import LiveTeacher
    from hf_reason.teachers.cache import TopKCache
    from hf_reason.trainers import CoTSFTConfig, CoTSFTTrainer, DistillKLConfig, DistillKLTrainer

    data, clock, tok = rows(args), Clock(), tokenizer()
    settings: dict[str, Any] = {
        "max_steps": args.steps,
        "per_device_train_batch_size": args.batch,
        "report_to": "none",
        "bf16": False,
        "gradient_checkpointing": False,
        "save_strategy": "no",
        "disable_tqdm": True,
        "max_length": args.tokens,
        "logging_strategy": "no",
        "dataloader_pin_memory": False,
        "learning_rate": 1e-5,
    }
    cache = TopKCache(args.cache) if side == "cache" else None
    if cache is not None:
        data = cache.link(data, data["id"], "train", None)
    data = data.remove_columns("id")
    before = common.peak_mb(DEVICE)
    student = build(args.student, args, 0)
    with tempfile.TemporaryDirectory() as folder:
        shared: dict[str, Any] = {"train_dataset": data, "processing_class": tok, "callbacks": [clock]}
        if side == "SFT":
            trainer: Any = CoTSFTTrainer(student, CoTSFTConfig(folder, **settings), **shared)
        elif side == "GKD":

            def collate(examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
                batch = {name: torch.tensor([e[name] for e in examples]) for name in ("input_ids", "labels")}
                prompts = batch["input_ids"][:, : args.prompt_tokens]
                mask = torch.ones_like(batch["input_ids"])
                return {
                    **batch,
                    "attention_mask": mask,
                    "prompts": prompts,
                    "prompt_attention_mask": torch.ones_like(prompts),
                }

            config: Any = GKDConfig(folder, lmbda=0.0, beta=0.0, temperature=1.0, **settings)
            teacher: Any = build(args.teacher, args, 1)
            trainer = GKDTrainer(student, teacher, config, data_collator=collate, **shared)
        else:
            weights = {"live": (0.0, 1.0)}.get(side, (0.5, 0.5))
            source: Any = args.cache or LiveTeacher(build(args.teacher, args, 1).eval(), args.vocab_size)
            config = DistillKLConfig(folder, ce_weight=weights[0], kl_weight=weights[1], **settings)
            trainer = DistillKLTrainer(student, config, teacher_model=source, **shared)
            if isinstance(source, LiveTeacher):
                source.model.to(trainer.accelerator.device)
        trainer.train()
    step = statistics.median(clock.seconds[1:])
    return {"tokens/s": args.batch * args.tokens / step, "peak MB": common.peak_mb(DEVICE) - before}


def main() -> None:
    args = parse()
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.make_cache:
        make_cache(args)
        return
    if args.measure:
        print(json.dumps(measure(args.measure, args)))
        return
    with tempfile.TemporaryDirectory() as folder:
        if "cache" in args.sides:
            # in a process of its own, too: a peak counts what the parent held when it started the child
            subprocess.run([sys.executable, __file__, *sys.argv[1:], "--make_cache", "--cache", folder], check=True)
        extra = {side: ["--cache", folder] if side == "cache" else [] for side in args.sides}
        sides = {
            side: partial(common.in_own_process, __file__, *sys.argv[1:], "--measure", side, *extra[side])
            for side in args.sides
        }
        found = common.alternate(sides, args.repeats)
    medians, cells_by_side = common.medians(found), []
    for side, values in medians.items():
        cells = [f"{values['tokens/s']:.0f}", f"{values['peak MB']:,.0f}"]
        for name, other in (("tokens/s", "GKD"), ("peak MB", "GKD"), ("tokens/s", "SFT")):
            cells.append(f"{values[name] / medians[other][name]:.2f}" if other in medians else "-")
        cells_by_side.append([side, *cells, AIMS.get(side, "")])
    title = (
        f"{args.batch} x {args.tokens} tokens, vocabulary {args.vocab_size}, {DEVICE}, "
        f"{torch.get_num_threads()} thread(s), median of {args.repeats}"
    )
    columns = ("side", "tokens/s", "peak MB", "speed / GKD", "memory / GKD", "speed / SFT", "aim")
    common.print_table(title, columns, cells_by_side)
    common.write_json(args.json, args, found, hidden=["measure", "cache", "make_cache"])


if __name__ == "__main__":
    main()
