"""Configuration of `ReasonerLoRATrainer`."""

from dataclasses import dataclass

from hf_reason._options import option
from hf_reason._renamed import renamed

from .cot_sft_config import CoTSFTConfig


@renamed(reasoner_share="reasoner_ratio")
@dataclass
class ReasonerLoRAConfig(CoTSFTConfig):
    """`CoTSFTConfig` with the choice of the layers that get a LoRA.

    Parameters:
        > Parameters that control the layers

        reasoner_layers (`str`, defaults to `"auto"`):
            Which layers: `"auto"` (a StepReasoner's reasoner; of a decoder-only model those that a ranking chooses),
            `"all"`, `"shallow_half"`, a fraction from the bottom `"0.5"`, a range `"8-15"`, numbers `"0,3,5"`, or
            names `"model.layers.3"`.
        reasoner_ratio (`float`, defaults to `0.33`):
            Fraction of the layers that `"auto"` chooses.
        ranking_records (`int`, defaults to `256`):
            Records that the ranking reads.

    > [!NOTE]
    > Rank, targets, rsLoRA, DoRA and the like are those of the `peft_config`. Defaults that differ from
    > `CoTSFTConfig`: `learning_rate` is 2e-4.
    """

    reasoner_layers: str = option(
        "auto", "auto, all, a range (8-15), numbers (0,3,5), names (model.layers.3), a fraction or shallow_half."
    )
    reasoner_ratio: float = option(0.33, "Fraction of the layers that auto chooses.")
    ranking_records: int = option(256, "Records that auto's ranking reads.")
    learning_rate: float = option(2e-4, "Initial learning rate.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.reasoner_layers, str):  # a YAML's `reasoner_layers: 3` is a number, `[0, 3]` a list
            layers = self.reasoner_layers if isinstance(self.reasoner_layers, list) else [self.reasoner_layers]
            self.reasoner_layers = ",".join(map(str, layers))
        if not 0 < self.reasoner_ratio <= 1:
            raise ValueError(f"reasoner_ratio must be above 0 and at most 1, got {self.reasoner_ratio}.")
        if self.ranking_records < 1:
            raise ValueError(f"ranking_records must be 1 or more, got {self.ranking_records}.")
