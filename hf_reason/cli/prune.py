"""`prune`: make the weakest weights zero, or take whole groups, channels and layers out; recover, and compare.

The model is measured before and after on the same problems. One that lost more than `--max_drop` points, or leaves
thoughts open, is refused (exit code 3).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hf_reason._options import option
from hf_reason.cli.parsing.parser import parse

from .compressing import Compression
from .recovery_arguments import RecoveryArguments, recovered

_STRUCTURE = ("num_key_value_heads", "intermediate_size", "num_hidden_layers")


@dataclass
class PruneArguments(RecoveryArguments):
    """Which weights leave."""

    ratio: float | None = option(
        None, "Fraction of the weights that become zero. Default: 0.2, or none where groups, channels or layers leave."
    )
    modules: str = option("attention", "Linear modules that are pruned.", choices=("attention", "feed_forward", "all"))
    score: str = option(
        "magnitude", "activations: times the norm of a weight's input (Wanda).", choices=("magnitude", "activations")
    )
    scope: str = option(
        "matrix", "What is compared: the weights of a row, a matrix, or all.", choices=("row", "matrix", "global")
    )
    pattern: str | None = option(None, "2:4: two of each four weights of a row, in place of ratio.", choices=("2:4",))
    num_key_value_heads: int | None = option(None, "Key/value groups that each layer keeps.")
    intermediate_size: int | None = option(None, "Feed-forward channels that each layer keeps.")
    num_hidden_layers: int | None = option(None, "Layers that stay, evenly chosen.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ratio is None and self.pattern is None and not self.structure:
            self.ratio = 0.2
        if self.ratio is not None and self.pattern is not None:
            raise ValueError(f"ratio={self.ratio} and pattern={self.pattern} exclude each other: give one of them.")
        if self.ratio is not None and not 0 < self.ratio < 1:
            raise ValueError(f"ratio is a fraction between 0 and 1, got {self.ratio}.")

    @property
    def structure(self) -> dict[str, int]:
        """The sizes of a smaller model; empty if the shapes stay."""
        return {name: getattr(self, name) for name in _STRUCTURE if getattr(self, name) is not None}

    @property
    def sparse(self) -> bool:
        """Whether weights become zero."""
        return self.ratio is not None or self.pattern is not None

    @property
    def needs_calibration(self) -> bool:
        """Whether texts are needed to choose what leaves."""
        chosen_by_examples = {"num_key_value_heads", "intermediate_size"} & self.structure.keys()
        return bool(chosen_by_examples) or (self.sparse and self.score == "activations")


CLASSES = (PruneArguments,)


def main(argv: Sequence[str] | None = None) -> None:
    """Prune; `argv` are the arguments after the command's name."""
    args: PruneArguments
    (args,) = parse("prune", CLASSES, argv)
    _check_loar(args)
    run = Compression.begin("prune", args)
    if run is None:
        return
    run.measured(args.model_name_or_path)
    pruned = run.work / "pruned"
    if not run.made.is_dir() and not pruned.is_dir():
        run.save(_prune(run, args).save_pretrained, pruned)
    between = None
    if args.recover_steps and pruned.is_dir():
        between = run.measured(str(pruned))
    if not run.made.is_dir():
        if args.recover_steps:
            run.save(
                recovered(
                    run, args, run.load(str(pruned)), keep_zeros=args.modules if args.sparse else None
                ).save_pretrained
            )
        else:
            pruned.rename(run.made)
    always = (*_STRUCTURE, "recover_steps", "recover_on")
    sparse = ("ratio", "modules", "score", "scope", "pattern") if args.sparse else ()
    settings = {name: getattr(args, name) for name in (*sparse, *always)}
    if args.needs_calibration:
        settings |= {"calibration": run.calibration_kind, "calibration_records": args.calibration_records}
    run.finish(settings, between)


def _check_loar(args: PruneArguments) -> None:
    from hf_reason.models.loar import has_loar

    if args.structure and has_loar(args.model_name_or_path):
        raise ValueError(
            f"{args.model_name_or_path} has a LoAR, whose routers know its groups and layers: make the model before "
            "it smaller and train the LoAR again, or prune weights (--ratio)."
        )


def _prune(run: Compression, args: PruneArguments) -> Any:
    from hf_reason.compression import input_norms, prune_weights, smaller_model

    model = run.load()
    examples = run.calibration(model).examples if args.needs_calibration else []
    if args.structure:
        before = model.num_parameters()
        model = smaller_model(model, examples, **args.structure)
        print(f"{before} parameters before, {model.num_parameters()} now.", flush=True)
    if args.sparse:
        norms = input_norms(model, examples, modules=args.modules) if args.score == "activations" else None
        found = prune_weights(
            model,
            args.ratio if args.ratio is not None else 0.5,
            modules=args.modules,
            scope=args.scope,
            pattern=args.pattern,
            norms=norms,
        )
        print(f"{found.zeros} of {found.weights} weights are zero now ({found.ratio:.4f}).", flush=True)
    return model
