"""Which layers reason: a ranking by the Fisher information that thought tokens have about a LoRA of each layer."""

import json
import os
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from hf_reason._files import write_atomically, write_json_atomically
from hf_reason.models.layer_selection import LayerStack
from hf_reason.text.spans import PROMPT, THOUGHT

if TYPE_CHECKING:
    from peft import LoraConfig

RANKING_FILE, PLOT_FILE = "reasoner_layers.json", "reasoner_layers.png"


@dataclass(frozen=True)
class LayerScore:
    """How much a layer has to do with thoughts.

    Attributes:
        layer: Its number.
        thought: Mean squared gradient of a LoRA parameter of the layer, for the loss on thought tokens.
        prompt: The same for the loss on the prompt's tokens.
        score: The layer's fraction of all layers' `thought`, minus its fraction of their `prompt`.
    """

    layer: int
    thought: float
    prompt: float
    score: float


def rank_layers(
    model: Any,
    stack: LayerStack,
    examples: Sequence[dict[str, list[int]]],
    peft_config: "LoraConfig",
    *,
    device: torch.device,
    process_index: int = 0,
    num_processes: int = 1,
    progress: Callable[[Any], Any] = iter,
) -> list[LayerScore]:
    """Rank the layers of a model, best first.

    A LoRA is put on every layer; at its start one factor is 0, and only that one has a gradient. For each example the
    mean loss of its thought tokens and that of its prompt tokens are differentiated; the mean of the squared gradients
    over examples and parameters is the diagonal of the empirical Fisher information (as in Kirkpatrick et al. 2017,
    there for whole weights). The score compares a layer's fractions of both, so neither the scale of the losses nor
    the size of a layer counts. Afterwards the model is as it was.

    Args:
        model: The base model.
        stack: Its layers.
        examples: Encoded records (`input_ids`, `segment_ids`).
        peft_config: Rank and target modules of the LoRA.
        device: Where the examples go.
        process_index: Of `num_processes`, each of which reads a part of the examples; all get the same ranking.
        num_processes: Number of processes.
        progress: Wraps the examples.

    Raises:
        ValueError: if no example has both a thought and a prompt of two tokens.
    """
    from peft import LoraConfig, get_peft_model

    everywhere = LoraConfig(
        r=peft_config.r,
        lora_alpha=peft_config.lora_alpha,
        target_modules=peft_config.target_modules,
        layers_to_transform=list(range(len(stack.layers))),
        layers_pattern=stack.pattern,
        exclude_modules=peft_config.exclude_modules,
        task_type="CAUSAL_LM",
    )
    needed = [parameter.requires_grad for parameter in model.parameters()]
    training = model.training
    with torch.random.fork_rng():
        torch.manual_seed(0)  # the other factor is random; the ranking must repeat
        wrapped = get_peft_model(model, everywhere)
    sums = torch.zeros(2, len(stack.layers), dtype=torch.float64, device=device)
    count = torch.zeros((), dtype=torch.float64, device=device)
    parameters, places = [], []
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            parameters.append(parameter)
            places.append(int(name.split(f"{stack.name}.", 1)[1].split(".", 1)[0]))
    sizes = torch.zeros(len(stack.layers), dtype=torch.float64, device=device)
    for parameter, place in zip(parameters, places, strict=True):
        sizes[place] += parameter.numel()
    try:
        wrapped.eval()
        with _fused_head(model):
            for example in progress(examples[process_index::num_processes]):
                losses = _losses(wrapped, example, device)
                if losses is None:
                    continue
                count += 1
                for kind, loss in enumerate(losses):
                    gradients = torch.autograd.grad(loss, parameters, retain_graph=kind == 0)
                    for gradient, place in zip(gradients, places, strict=True):
                        sums[kind, place] += gradient.double().square().sum()
    finally:
        wrapped.unload()
        for parameter, need in zip(model.parameters(), needed, strict=True):
            parameter.requires_grad_(need)
        model.train(training)
    if num_processes > 1:
        for tensor in (sums, count):
            torch.distributed.all_reduce(tensor)
    if not count:
        raise ValueError("No record has both a prompt and a thought, so the layers cannot be ranked. Name the layers.")
    means = sums / sizes.clamp(min=1) / count
    ratios = means / means.sum(dim=1, keepdim=True)
    found = [
        LayerScore(layer, float(means[0, layer]), float(means[1, layer]), float(ratios[0, layer] - ratios[1, layer]))
        for layer in range(len(stack.layers))
    ]
    return sorted(found, key=lambda item: (-item.score, item.layer))


def _losses(model: Any, example: dict[str, list[int]], device: torch.device) -> list[torch.Tensor] | None:
    """Mean loss of the thought's tokens and of the prompt's, from one forward pass; `None` if one is missing."""
    ids = torch.tensor([example["input_ids"]], device=device)
    segments = torch.tensor([example["segment_ids"]], device=device)[:, 1:]
    masks = [segments == THOUGHT, segments == PROMPT]
    if not all(mask.any() for mask in masks):
        return None
    options = {"attention_mask": torch.ones_like(ids), "use_cache": False, "fused_lm_head": True}
    log_probs = model(input_ids=ids, labels=ids, **options).log_probs
    return [-log_probs[mask].mean() for mask in masks]


@contextmanager
def _fused_head(model: Any) -> Any:
    """TRL's fused head for a while: no logits of all positions."""
    from trl.trainer.utils import add_fused_lm_head

    before = model.__dict__.get("forward")
    add_fused_lm_head(model)
    try:
        yield
    finally:
        del model.forward
        if before is not None:
            model.forward = before


def choose(ranking: Sequence[LayerScore], ratio: float) -> list[int]:
    """The best fraction of the layers, at least one, in the order of the model."""
    return sorted(item.layer for item in ranking[: max(1, round(ratio * len(ranking)))])


def format_ranking(ranking: Sequence[LayerScore], chosen: Sequence[int]) -> str:
    """The ranking as a table, best first."""
    lines = ["rank  layer  thought    prompt     score    chosen"]
    lines += [
        f"{rank:>4}  {item.layer:>5}  {item.thought:.3e}  {item.prompt:.3e}  {item.score:+.4f}  "
        f"{'yes' if item.layer in chosen else ''}"
        for rank, item in enumerate(ranking, start=1)
    ]
    return "\n".join(line.rstrip() for line in lines)


def save_ranking(
    folder: str | os.PathLike[str], ranking: Sequence[LayerScore], chosen: Sequence[int], settings: dict[str, Any]
) -> None:
    """Write the ranking as JSON and as a plot; each file appears whole or not at all."""
    from matplotlib.figure import Figure

    where = Path(folder)
    where.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(max(5.0, 1.5 + 0.3 * len(ranking)), 4.0), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    for item in ranking:
        axes.bar(item.layer, 100 * item.score, color="#0072B2" if item.layer in chosen else "#BBBBBB")
    axes.axhline(0, color="#444444", linewidth=0.8)
    axes.set_xlabel("layer (blue: LoRA goes here)")
    axes.set_ylabel("percentage of the thought's Fisher information\nminus that of the prompt's (points)")
    step = max(1, len(ranking) // 16)
    axes.set_xticks(range(0, len(ranking), step))
    write_atomically(where / PLOT_FILE, lambda path: figure.savefig(path, format="png", dpi=150))
    values = {"settings": settings, "layers": list(chosen), "ranking": [asdict(item) for item in ranking]}
    write_json_atomically(where / RANKING_FILE, values)


def saved_layers(folder: str | os.PathLike[str], settings: dict[str, Any]) -> list[int] | None:
    """The layers that were chosen before under the same settings, so that a resumed run has the same ones."""
    try:
        values = json.loads(Path(folder, RANKING_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return values["layers"] if values.get("settings") == settings else None
