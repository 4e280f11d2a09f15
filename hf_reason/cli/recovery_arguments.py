"""The recovery of `prune` and `quantize`: how a compressed model learns from the one that it was made of."""

from dataclasses import dataclass
from typing import Any

from hf_reason._options import option

from .compressing import Compression
from .compression_arguments import CompressionArguments
from .generation_arguments import check_at_least_1


@dataclass
class RecoveryArguments(CompressionArguments):
    """How long the compressed model learns from the model before, and on what."""

    recover_steps: int = option(0, "Steps of distillation from the model before the compression; 0: none.")
    recover_on: str | None = option(
        None,
        "traces: the training records; self: the model's own verified chains. Default: traces, if there are chains.",
        choices=("traces", "self"),
    )
    recover_learning_rate: float = option(1e-6, "Learning rate of the recovery; small models need more.")
    recover_batch_size: int = option(8, "Records in a step of the recovery.")
    recover_max_length: int = option(1024, "Longest record of the recovery in tokens; longer ones are left out.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.recover_steps < 0:
            raise ValueError(f"recover_steps must not be negative, got {self.recover_steps}.")
        check_at_least_1(self, "recover_batch_size", "recover_max_length")
        if not self.recover_learning_rate > 0:
            raise ValueError(f"recover_learning_rate must be positive, got {self.recover_learning_rate}.")


def recovered(run: Compression, args: RecoveryArguments, model: Any, keep_zeros: str | None = None) -> Any:
    """The compressed `model`, taught by the whole one as the arguments say; see `hf_reason.compression.recovery`."""
    from hf_reason.compression.recovery import recover

    whole = run.load()
    return recover(
        model,
        whole,
        run.tokenizer,
        run.recovery_data(whole, args.recover_on),
        output_dir=run.work / "recovery",
        max_steps=args.recover_steps,
        keep_zeros=keep_zeros,
        instructions=run.instructions,
        report=lambda before, after: print(
            f"KL to the whole model on held-out records: {before:.3g} nats a token, {after:.3g} after the recovery."
        ),
        learning_rate=args.recover_learning_rate,
        per_device_train_batch_size=args.recover_batch_size,
        max_length=args.recover_max_length,
        use_cpu=args.use_cpu,
        seed=args.seed,
    )
