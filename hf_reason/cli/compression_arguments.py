"""The arguments that `prune` and `quantize` share: the model, the calibration and the gate."""

from dataclasses import dataclass

from hf_reason._options import option

from .arguments import SourceArguments, as_list
from .publishing import PushArguments


@dataclass
class CompressionArguments(PushArguments, SourceArguments):
    """What is compressed, on what it is calibrated, and how the result is judged."""

    model_name_or_path: str = option("", "Folder or Hub name of the model. (required)")
    output_dir: str = option("", "Folder of the compressed model. (required)")
    calibration: str = option("self", "self: the model's own verified chains; traces: the records' chains; or a file.")
    calibration_records: int = option(128, "Texts to calibrate on.")
    calibration_max_length: int = option(2048, "Longest of them in tokens; of a file, the length of its windows.")
    eval_dataset_name: list[str] | None = option(
        None, "Data on which both models are compared, prepared or raw. Default: the split of dataset_name."
    )
    split: str = option("test", "Split of prepared data on which both models are compared.")
    max_records: int | None = option(200, "Records of it; the first ones.")
    max_completion_length: int = option(2048, "Longest output in tokens.")
    batch_size: int = option(16, "Sequences generated at once.")
    max_drop: float = option(5.0, "Points that answer accuracy and step accuracy may each lose.")
    min_close_rate: float | None = option(
        None, "Least fraction of closed thoughts. Default: max_drop points below that of the model before."
    )
    thinking: bool = option(True, "False: ask a hybrid model for the answers without their thoughts.")
    instructions: str | None = option(
        None, "YAML with a template for each domain, or 'default'. Default: those saved beside the model."
    )
    tokenizer_name_or_path: str | None = option(None, "Tokenizer. Default: the model's own.")
    dtype: str = option("auto", "Type of the weights: auto, float32, bfloat16, ...")
    cache_dir: str | None = option(
        None, "Folder of figures and own chains: compressions of one model with the same folder make them once."
    )
    seed: int = option(0, "Seed of whatever is random.")
    trust_remote_code: bool = option(False, "Run code that comes with the model.")
    use_cpu: bool = option(False, "Do not use an accelerator.")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.eval_dataset_name = as_list(self.eval_dataset_name) or None
        for name in ("model_name_or_path", "output_dir"):
            if not getattr(self, name):
                raise ValueError(f"there is no {name}. Give --{name}.")
        for name in ("calibration_records", "calibration_max_length", "max_completion_length", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.max_drop < 0:
            raise ValueError(f"max_drop must not be negative, got {self.max_drop}.")
        if self.min_close_rate is not None and not 0 <= self.min_close_rate <= 1:
            raise ValueError(f"min_close_rate is a fraction between 0 and 1, got {self.min_close_rate}.")
