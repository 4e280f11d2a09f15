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
from .compression_arguments import CompressionArguments


@dataclass
class QuantizeArguments(CompressionArguments):
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

    def __post_init__(self) -> None:
        super().__post_init__()
        self.skip_modules = as_list(self.skip_modules)
        kept = {"bits": 4, "group_size": 128, "desc_act": False}
        changed = [f"--{name}" for name, value in kept.items() if getattr(self, name) != value]
        if self.method != "gptq" and changed:
            raise ValueError(f"{', '.join(changed)}: only gptq has it; {self.method} has bits and groups of its own.")


CLASSES = (QuantizeArguments,)


def main(argv: Sequence[str] | None = None) -> None:
    """Quantise; `argv` are the arguments after the command's name."""
    args: QuantizeArguments
    (args,) = parse("quantize", CLASSES, argv)
    if args.method == "gptq":
        _check_extra()
    run = Compression.begin("quantize", args)
    if run is None:
        return
    run.measured(args.model_name_or_path)
    if not run.made.is_dir():
        _quantize(run, args)
    names = ("method", "skip_modules")
    settings: dict[str, Any] = {name: getattr(args, name) or None for name in names}
    if args.method == "gptq":
        settings |= {name: getattr(args, name) for name in ("bits", "group_size", "desc_act", "calibration_records")}
        settings["calibration"] = run.calibration_kind
    run.finish(settings)


def _check_extra() -> None:
    from hf_reason.compression.gptq import quiet_gptqmodel

    with quiet_gptqmodel():
        pass


def _quantize(run: Compression, args: QuantizeArguments) -> None:
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
        run.save(lambda folder: save_gptq(quantised, folder))
        return
    from hf_reason.compression.bnb import check_runs_here, quantize_bnb

    whole = run.work / "whole"  # an adapter is merged, a LoAR is apart
    if not whole.is_dir():
        run.save(run.load().save_pretrained, whole)
    smaller = quantize_bnb(whole, args.method, skip=args.skip_modules)
    check_runs_here(smaller)
    run.save(lambda folder: _save(smaller, folder))


def _save(model: Any, folder: Path) -> None:
    model.config._name_or_path = ""  # the folder of this machine
    model.save_pretrained(folder)
