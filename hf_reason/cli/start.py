"""What a training run says before its first step: records, parameters, steps, and whether tokenizer and data fit."""

import math
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from hf_reason.cli.inputs.datasets import Splits
from hf_reason.text.instructions import FALLBACK
from hf_reason.text.multimodal import tokenizer_in

if TYPE_CHECKING:
    from hf_reason.trainers import CoTSFTTrainer

_SAMPLE = 200
# Chinese text needs 0.6 to 0.8 tokens a character with a tokenizer made for it, English a quarter; bytes need 3.
MAX_TOKENS_PER_CHARACTER = 1.5


def check_dropped(trainer: "CoTSFTTrainer", max_ratio: float) -> None:
    """Refuse to train on what is left when `max_length` drops most of the records.

    Raises:
        ValueError: if more than `max_ratio` of the training records are dropped.
    """
    report = trainer.length_reports.get("train")
    dropped = _dropped(trainer)
    if report is None or not report.examples or dropped / report.examples <= max_ratio:
        return
    mean = report.overlong_tokens / max(report.overlong, 1)
    raise ValueError(
        f"max_length={trainer.args.max_length} drops {dropped} of {report.examples} training records "
        f"({dropped / report.examples:.0%}, more than max_dropped_ratio={max_ratio:g}): they have {mean:.0f} tokens "
        "on average. Raise max_length, set overlong to split, or raise max_dropped_ratio."
    )


def _dropped(trainer: "CoTSFTTrainer") -> int:
    """Training records that `max_length` drops."""
    report = trainer.length_reports.get("train")
    if report is None:
        return 0
    return {"drop": report.overlong, "split": report.unsplit}.get(trainer.args.overlong, 0)


def start_line(trainer: "CoTSFTTrainer", splits: Splits, instructions: Mapping[str, str]) -> str:
    """Records used and dropped, trainable parameters, steps, tokens a character, and use of the templates."""
    args = trainer.args
    dropped, records = _dropped(trainer), len(splits.train)
    others = [
        f"{len(part)} {name}" for name, part in (("validation", splits.validation), ("test", splits.test)) if part
    ]
    trainable, total = count_parameters(trainer.accelerator.unwrap_model(trainer.model))
    parts = [
        f"{records - dropped} training records ({dropped} dropped by max_length={args.max_length})",
        *([" and ".join(others) + " records"] if others else []),
        f"{trainable:,} of {total:,} parameters trainable ({trainable / max(total, 1):.2%})",
        _steps(trainer),
        f"{tokens_per_character(trainer.processing_class, splits.train)[0]:.2f} tokens a character",
    ]
    if instructions:
        parts.append(template_use(splits.train, instructions))
    return "Start: " + "; ".join(parts)


def count_parameters(model: Any) -> tuple[int, int]:
    """Trainable parameters and all of them; those that DeepSpeed has partitioned count whole."""
    sizes = [(getattr(p, "ds_numel", p.numel()), p.requires_grad) for p in model.parameters()]
    return sum(size for size, trains in sizes if trains), sum(size for size, _ in sizes)


def _steps(trainer: "CoTSFTTrainer") -> str:
    args, dataset = trainer.args, trainer.train_dataset
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    if args.max_steps > 0:
        return f"{args.max_steps} steps of {batch} examples"
    try:
        rows = len(dataset)  # type: ignore[arg-type]
    except TypeError:  # a stream
        return f"steps of {batch} examples"
    batches = math.ceil(rows / (args.per_device_train_batch_size * args.world_size))
    steps = math.ceil(math.ceil(batches / args.gradient_accumulation_steps) * args.num_train_epochs)
    return f"{steps} steps of {batch} examples ({args.num_train_epochs:g} epochs)"


def template_use(records: Any, instructions: Mapping[str, str]) -> str:
    """For how many records there is a template, and which domains have none."""
    domains = list(records["domain"])
    without = sorted({domain for domain in domains if domain not in instructions and FALLBACK not in instructions})
    used = sum(domain not in without for domain in domains)
    note = f" (none for {', '.join(without)})" if without else ""
    return f"template used for {used} of {len(domains)} records{note}"


def tokens_per_character(reader: Any, records: Iterable[Mapping[str, Any]]) -> tuple[float, int]:
    """Tokens a character over some records, and how many of the tokens are unknown ones."""
    tokens, characters, unknown, tokenizer = 0, 0, 0, tokenizer_in(reader)
    for record in islice(records, _SAMPLE):
        text = "\n".join([record["context"], *record["steps"], record["answer"]])
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        tokens, characters = tokens + len(ids), characters + len(text)
        if tokenizer.unk_token_id is not None:
            unknown += ids.count(tokenizer.unk_token_id)
    return tokens / max(characters, 1), unknown


def warnings_about(tokenizer: Any, records: Iterable[Mapping[str, Any]]) -> list[str]:
    """What to say if the tokenizer was made for other text than these records."""
    tokenizer = tokenizer_in(tokenizer)
    ratio, unknown = tokens_per_character(tokenizer, records)
    found = []
    if ratio > MAX_TOKENS_PER_CHARACTER:
        found.append(
            f"the tokenizer needs {ratio:.1f} tokens a character of these records: it was made for other text, so the "
            "model has not learned most of these tokens. Use a model whose tokenizer knows this language and domain."
        )
    if unknown:
        found.append(
            f"{unknown} tokens of these records are unknown to the tokenizer ({tokenizer.unk_token}): the model "
            "cannot read or write these characters. Use a model whose tokenizer knows them."
        )
    return found


def lost_steps(model: Any, learning_rate: float) -> float:
    """Fraction of the trained weights that an update of the size of `learning_rate` leaves as they are.

    Weights in half precision have neighbours that are far apart, 0.4 to 0.8% in bfloat16: an update of less than half
    of that is lost in the rounding, every time. Judged on at most 4,096 weights of each tensor.
    """
    lost = count = 0
    for weight in model.parameters():
        if weight.requires_grad and weight.is_floating_point() and weight.numel():
            sample = weight.detach().flatten()[:: -(-weight.numel() // 4096)]
            size = weight.numel() / sample.numel()
            lost += size * float(((sample.float() + learning_rate).to(sample.dtype) == sample).sum())
            count += weight.numel()
    return lost / max(count, 1)


def warnings_about_weights(trainer: Any) -> list[str]:
    """What to say if most of what is trained stands still in its rounding."""
    if getattr(trainer, "is_deepspeed_enabled", False):
        return []  # its engine has a copy of the weights in float32
    rate = trainer.args.learning_rate
    lost = lost_steps(trainer.accelerator.unwrap_model(trainer.model), rate)
    if lost < 0.5:
        return []
    return [
        f"the weights are trained in half precision, where an update of learning_rate={rate:g} is lost in the "
        f"rounding of {lost:.0%} of them. Leave --dtype out: float32 weights with --bf16 true compute in half "
        "precision, too; or train a LoRA (--use_peft true)."
    ]


def warnings_about_offload(trainer: Any) -> list[str]:
    """What to say if a configuration of DeepSpeed asks for what its stage does not have."""
    plugin = getattr(trainer.accelerator.state, "deepspeed_plugin", None)
    zero = plugin.deepspeed_config.get("zero_optimization", {}) if plugin is not None else {}
    stage, device = zero.get("stage", 0), (zero.get("offload_param") or {}).get("device")
    if stage == 3 or device in (None, "none"):
        return []
    return [
        f"offload_param in the configuration of DeepSpeed has no effect: ZeRO stage {stage} keeps all weights on each "
        "device, and goes on so. To move them, set stage 3 (--accelerate_config zero3)."
    ]
