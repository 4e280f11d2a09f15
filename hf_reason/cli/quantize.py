"""`quantize`: weights of a few bits, by GPTQ (calibrated on chains of thought) or bitsandbytes.

The model is measured before and after on the same problems. One that lost more than `--max_drop` points, or leaves
thoughts open, is refused (exit code 3).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_reason._options import option
from hf_reason.cli.parsing.parser import parse

from .arguments import as_list
from .compressing import Compression
from .recovery_arguments import RecoveryArguments, recovered


@dataclass
class QuantizeArguments(RecoveryArguments):
    """How the weights are stored."""

    method: str = option(
        "gptq",
        "gptq (auto-gptq's layout), or bitsandbytes' nf4 or int8, which need no calibration.",
        choices=("gptq", "nf4", "int8"),
    )
    bits: int = option(4, "Bits of a weight with gptq.", choices=(2, 3, 4, 8))
    group_size: int = option(128, "Weights with a scale together, with gptq; -1: a row.")
    desc_act: bool = option(False, "gptq: quantise strong inputs first; slower at inference.")
    skip_modules: list[str] = option(
        help="Modules that stay whole besides the head: model.layers.0, o_proj, ...", default_factory=list
    )

    recover_learning_rate: float = option(1e-3, "Learning rate of the scales in the recovery.")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.skip_modules = as_list(self.skip_modules)
        kept = {"bits": 4, "group_size": 128, "desc_act": False}
        changed = [f"--{name}" for name, value in kept.items() if getattr(self, name) != value]
        if self.method != "gptq" and changed:
            raise ValueError(f"{', '.join(changed)}: only gptq has it; {self.method} has bits and groups of its own.")
        if self.method != "gptq" and self.recover_steps:
            raise ValueError(
                f"--recover_steps trains the scales of gptq; {self.method} has none to train. Quantise without it, "
                "then train a LoRA on top: hf-reason distill --model_name_or_path "
                f"{self.output_dir} --teacher_model_name_or_path {self.model_name_or_path} --use_peft true ..."
            )


CLASSES = (QuantizeArguments,)


def main(argv: Sequence[str] | None = None) -> None:
    """Quantise; `argv` are the arguments after the command's name."""
    args: QuantizeArguments
    (args,) = parse("quantize", CLASSES, argv)
    _check_plain(args.model_name_or_path)
    _check_extra(args.method)
    run = Compression.begin("quantize", args)
    if run is None:
        return
    run.measured(args.model_name_or_path)
    quantised = run.work / "quantised"
    if not run.made.is_dir() and not quantised.is_dir():
        _quantize(run, args, quantised)
    between = None
    if args.recover_steps and quantised.is_dir():
        between = run.measured(str(quantised))
    if not run.made.is_dir():
        if args.recover_steps:
            _recover(run, args, quantised)
        else:
            quantised.rename(run.made)
    names = ("method", "skip_modules")
    settings: dict[str, Any] = {name: getattr(args, name) or None for name in names}
    if args.method == "gptq":
        settings |= {name: getattr(args, name) for name in ("bits", "group_size", "desc_act", "calibration_records")}
        settings |= {"calibration": run.calibration_kind, "recover_steps": args.recover_steps}
    run.finish(settings, between)


def _check_plain(name: str) -> None:
    from hf_reason.models.quantized_loading import quantization_settings
    from hf_reason.models.weight_files import base_of_adapter

    for place in filter(None, (name, base_of_adapter(name))):
        found = quantization_settings(place)
        if found is not None:
            method = found.get("quant_method") or "unknown method"
            raise ValueError(f"{place} is quantised already ({method}): quantise the model that it was made of.")


def _check_extra(method: str) -> None:
    from hf_reason.compression.bnb import check_bitsandbytes
    from hf_reason.models.quantized_loading import quiet_gptqmodel

    if method != "gptq":
        return check_bitsandbytes(method)
    with quiet_gptqmodel():
        return None


def _quantize(run: Compression, args: QuantizeArguments, target: Path) -> None:
    if args.method == "gptq":
        from hf_reason.compression.gptq import quantize_gptq, save_gptq

        model = run.load()
        quantised = quantize_gptq(
            model,
            run.calibration(model).examples,
            bits=args.bits,
            group_size=args.group_size,
            desc_act=args.desc_act,
            skip=args.skip_modules,
            progress=run.progress("layers"),
        )
        run.save(lambda folder: save_gptq(quantised, folder), target)
        return
    from hf_reason.compression.bnb import check_runs_here, quantize_bnb

    whole = run.work / "whole"  # an adapter is merged, a LoAR is apart
    if not whole.is_dir():
        run.save(run.load().save_pretrained, whole)
    smaller = quantize_bnb(whole, args.method, skip=args.skip_modules)
    check_runs_here(smaller)
    run.save(lambda folder: _save(smaller, folder), target)


def _save(model: Any, folder: Path) -> None:
    model.config._name_or_path = ""  # the folder of this machine
    model.save_pretrained(folder)


def _recover(run: Compression, args: QuantizeArguments, quantised: Path) -> None:
    from hf_reason.compression.scale_tuning import load_scaled, save_scaled

    model = recovered(run, args, load_scaled(quantised, trust_remote_code=args.trust_remote_code))
    run.save(lambda folder: save_scaled(model, quantised, folder))
