"""Which layers of a pretrained model should a LoRA train? The loss on held-out records after equal steps.

    python recipes/bench/lora_layers.py --model_name_or_path Qwen/Qwen2.5-0.5B-Instruct \\
        --dataset_name outputs/pretrained/data-teacher

The ways: every layer; the third that the ranking of `hf-reason lora` chooses; the third whose absence raises the loss
of the thoughts most, one layer skipped at a time; the upper and the lower third; and as many layers drawn by each
seed. The learning rate is the same for all. Losses are those of the thoughts and answers, in nats a token, on the
validation records; the first row is the model before. Finished runs are kept in --output_dir and not repeated.
"""

import gc
import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import common
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_reason import ReasonerLoRAConfig, ReasonerLoRATrainer
from hf_reason.data import load_cot_sft_dataset
from hf_reason.models.layer_selection import reasoning_stack
from hf_reason.models.loar.calibration import example_loss

WAYS = ("all", "ranked", "skipped", "upper", "lower", "random")


class Bench:
    """The runs, and what there is of them."""

    def __init__(self, args: Any):
        self.args = args
        self.tokenizer = AutoTokenizer.from_pretrained(args.model_name_or_path)
        self.train = self.records("train", args.train_records)
        self.held_out = self.records("validation", args.held_out)
        stack = reasoning_stack(self.model())
        self.layers, self.chosen = len(stack.layers), max(1, round(args.ratio * len(stack.layers)))

    def records(self, split: str, count: int) -> Any:
        data = load_cot_sft_dataset(split=split, data_dir=self.args.dataset_name)
        return data.shuffle(seed=0).select(range(min(count, len(data))))

    def model(self) -> Any:
        dtype = getattr(torch, self.args.dtype)
        return AutoModelForCausalLM.from_pretrained(self.args.model_name_or_path, dtype=dtype)

    def kept(self, name: str, make: Callable[[], Any]) -> Any:
        """A result that was written before, or is made and written now."""
        path = self.args.output_dir / f"{common.slug(name)}.json"
        if not path.is_file():
            path.write_text(json.dumps(make()) + "\n", encoding="utf-8")
            gc.collect()
        return json.loads(path.read_text("utf-8"))

    def trainer(self, layers: str, seed: int) -> ReasonerLoRATrainer:
        args = self.args
        config = ReasonerLoRAConfig(
            str(args.output_dir / "run"),
            reasoner_layers=layers,
            reasoner_ratio=args.ratio,
            ranking_records=args.ranking_records,
            max_steps=args.max_steps,
            learning_rate=args.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=0.05,
            per_device_train_batch_size=args.batch_size,
            per_device_eval_batch_size=args.batch_size,
            max_length=args.max_length,
            bf16=False,
            seed=seed,
            save_strategy="no",
            report_to="none",
            use_cpu=not torch.accelerator.is_available(),
        )
        return ReasonerLoRATrainer(
            model=self.model(),
            args=config,
            train_dataset=self.train,
            eval_dataset=self.held_out,
            processing_class=self.tokenizer,
        )

    def before(self) -> float:
        return float(self.trainer("0", 0).evaluate()["eval_loss"])

    def after(self, way: str, seed: int) -> dict[str, Any]:
        trainer = self.trainer(self.layers_of(way, seed), seed)
        trainer.train()
        loss, parameters = float(trainer.evaluate()["eval_loss"]), trainer.model.num_parameters(only_trainable=True)
        return {"loss": loss, "parameters": parameters, "layers": trainer.reasoner_layers}

    @torch.no_grad()
    def rises(self) -> list[float]:
        """How much the loss of the thoughts and answers rises without each layer, on the ranking's records."""
        encoded = self.trainer("0", 0).train_dataset
        encoded = [encoded[row] for row in range(min(self.args.ranking_records, len(encoded)))]
        model = self.model().eval()
        stack = reasoning_stack(model)

        def loss() -> float:
            return sum(example_loss(model, row, torch.device("cpu")) for row in encoded) / len(encoded)

        whole, found = loss(), []
        for layer in stack.layers:
            with skipped(layer):
                found.append(loss() - whole)
        return found

    def layers_of(self, way: str, seed: int) -> str:
        """`reasoner_layers` of a way."""
        if way in ("all", "ranked"):
            return "all" if way == "all" else "auto"
        order = list(range(self.layers))
        if way == "skipped":
            rises = self.kept("rises", self.rises)
            order.sort(key=lambda layer: -rises[layer])
        elif way == "upper":
            order.reverse()
        elif way == "random":
            random.Random(seed).shuffle(order)
        return ",".join(map(str, sorted(order[: self.chosen])))


@contextmanager
def skipped(layer: torch.nn.Module) -> Iterator[None]:
    """Inside it the layer gives what it gets."""

    def through(module: Any, given: Any, output: Any) -> Any:
        return given[0] if isinstance(output, torch.Tensor) else (given[0], *output[1:])

    handle = layer.register_forward_hook(through)
    try:
        yield
    finally:
        handle.remove()


def main() -> None:
    parser = common.parser(__doc__)
    common.add_run_options(parser, "outputs/lora_layers")
    parser.add_argument("--model_name_or_path", required=True)
    parser.add_argument("--dataset_name", required=True, help="Prepared data with a validation split.")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--ratio", type=float, default=1 / 3, help="Of the layers.")
    parser.add_argument("--ranking_records", type=int, default=16)
    parser.add_argument("--train_records", type=int, default=1000)
    parser.add_argument("--held_out", type=int, default=32)
    parser.add_argument("--max_steps", type=int, default=20)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--max_length", type=int, default=512)
    parser.add_argument("--learning_rate", type=float, default=2e-4)
    parser.add_argument("--dtype", default="bfloat16", help="Of the model; the LoRA is in float32.")
    args = parser.parse_args()
    args.output_dir.mkdir(parents=True, exist_ok=True)
    bench = Bench(args)
    rows = [["before", "", f"{bench.kept('before', bench.before):.4f}", ""]]
    for way in args.ways:
        runs = [bench.kept(f"{way} {seed}", partial(bench.after, way, seed)) for seed in args.seeds]
        losses = common.mean_and_values([run["loss"] for run in runs], ".4f")
        layers = "; ".join(dict.fromkeys(" ".join(map(str, run["layers"])) for run in runs))
        rows.append([way, f"{runs[0]['parameters']:,}", losses, layers])
    print(f"\n{args.max_steps} steps of {args.batch_size}; {len(bench.held_out)} held-out records; seeds {args.seeds}")
    common.print_markdown(["layers", "parameters", "loss", "which"], rows)


if __name__ == "__main__":
    main()
