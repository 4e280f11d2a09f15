"""Which query heads of a pretrained model can rest: its loss on held-out chains of its own with some of them off.

    python recipes/bench/loar_heads.py --model_name_or_path Qwen/Qwen2.5-Coder-0.5B-Instruct --chains chains.jsonl

`chains.jsonl` holds chains that the model wrote, one a line: `prompt` and `text` as they were sent and generated, and
`right`, whether the answer was; wrong ones are left out. Heads are switched off over the whole model, without any
training: those of the lowest scores of `calibrate_routers` (the gradient at all gates together), and random ones.
Every layer keeps one head. `--single N` adds those whose absence alone raises the loss of N chains least: a forward
pass a head and chain. Finished parts are kept in `--output_dir` and not repeated.
"""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_reason import LoARConfig, apply_loar
from hf_reason.models.loar.calibration import example_loss
from hf_reason.models.loar.together import best_of_all, worth_together


def chains(path: Path, tokenizer: Any, longest: int, seed: int = 0) -> list[dict[str, Any]]:
    """Right chains of at most `longest` tokens, shuffled and encoded: the loss is that of the text."""
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    found = []
    for row in rows:
        if "text" in row and row.get("right", True):
            prompt = tokenizer(row["prompt"], add_special_tokens=False).input_ids
            text = [*tokenizer(row["text"], add_special_tokens=False).input_ids, tokenizer.eos_token_id]
            if len(prompt) + len(text) <= longest:
                found.append({"input_ids": prompt + text, "labels": [-100] * len(prompt) + text})
    random.Random(seed).shuffle(found)
    return found


class Bench:
    """The model with all query heads under gates, and its results so far."""

    def __init__(self, args: Any):
        self.args = args
        self.tokenizer = AutoTokenizer.from_pretrained(args.model_name_or_path)
        dtype = getattr(torch, args.dtype)
        self.model = AutoModelForCausalLM.from_pretrained(args.model_name_or_path, dtype=dtype).eval()
        self.model.requires_grad_(False)
        self.loar = apply_loar(self.model, LoARConfig(grain="heads", budget=1.0))
        self.shape = len(self.loar.budgets), self.loar.units
        self.total = self.shape[0] * self.shape[1]
        rows = chains(args.chains, self.tokenizer, args.max_tokens)
        self.held_out, self.examples = rows[: args.held_out], rows[args.held_out :][: args.calibration]

    def kept(self, name: str, make: Callable[[], Any]) -> Any:
        """A result that was written before, or is made and written now."""
        path = self.args.output_dir / f"{common.slug(name)}.json"
        if not path.is_file():
            path.write_text(json.dumps(make()) + "\n", encoding="utf-8")
        return json.loads(path.read_text("utf-8"))

    @torch.no_grad()
    def loss(self, mask: torch.Tensor) -> list[float]:
        """Loss of each held-out chain, nats a token."""
        self.loar.probe = lambda layer: mask[layer][None].float()
        try:
            return [example_loss(self.model, example, torch.device("cpu")) for example in self.held_out]
        finally:
            self.loar.probe = None

    def together(self) -> list[list[float]]:
        return worth_together(self.loar, self.model, self.examples).tolist()  # type: ignore[no-any-return]

    def alone(self) -> list[list[float]]:
        """The rise of the loss without each head."""
        examples, scores = self.examples[: self.args.single], torch.zeros(self.shape)
        gates = torch.ones(self.shape)
        self.loar.probe = lambda layer: gates[layer][None]
        for layer in range(self.shape[0]):
            for head in range(self.shape[1]):
                gates[layer, head] = 0.0
                scores[layer, head] = sum(example_loss(self.model, row, torch.device("cpu")) for row in examples)
                gates[layer, head] = 1.0
        self.loar.probe = None
        return scores.tolist()  # type: ignore[no-any-return]


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--model_name_or_path", required=True)
    parser.add_argument("--chains", type=Path, required=True)
    parser.add_argument("--calibration", type=int, default=32, help="Chains that the scores are made from.")
    parser.add_argument("--held_out", type=int, default=8, help="Chains whose loss is shown.")
    parser.add_argument("--max_tokens", type=int, default=192, help="Longer chains are left out.")
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.05, 0.1, 0.2, 0.4], help="Heads that are off.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="Of the random heads.")
    parser.add_argument("--single", type=int, default=0, help="Chains for scores of each head alone; 0: none.")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/loar_heads"))
    args = parser.parse_args()
    args.output_dir.mkdir(parents=True, exist_ok=True)
    bench, rows = Bench(args), []

    def losses(name: str, scores: torch.Tensor, off: int) -> float:
        found = bench.kept(f"loss {name} {off}", lambda: bench.loss(best_of_all(scores, bench.total - off, 1)))
        return sum(found) / len(found)

    everything = bench.kept("loss all", lambda: bench.loss(torch.ones(bench.shape)))
    for ratio in args.ratios:
        off = round(ratio * bench.total)
        sides = {"gradient": bench.kept("gradient", bench.together)}
        if args.single:
            sides["each alone"] = bench.kept("each alone", bench.alone)
        cells = [f"{losses(name, torch.tensor(scores), off):.3f}" for name, scores in sides.items()]
        drawn = [
            losses(f"random {seed}", torch.rand(bench.shape, generator=torch.Generator().manual_seed(seed)), off)
            for seed in args.seeds
        ]
        rows.append([f"{ratio:.0%} ({off})", *cells, common.mean_and_values(drawn, ".3f")])
    counts = (
        f"{len(bench.examples)} chains of {sum(map(_targets, bench.examples))} tokens; {len(bench.held_out)} held out"
    )
    print(f"\n{counts}; all heads on: {sum(everything) / len(everything):.3f}\n")
    common.print_markdown(["heads off", *sides, f"random (seeds {', '.join(map(str, args.seeds))})"], rows)


def _targets(example: dict[str, Any]) -> int:
    return sum(label != -100 for label in example["labels"])


if __name__ == "__main__":
    main()
