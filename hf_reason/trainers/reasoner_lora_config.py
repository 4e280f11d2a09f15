"""Configuration of `ReasonerLoRATrainer`."""

from dataclasses import dataclass, field

from .cot_sft_config import CoTSFTConfig


@dataclass
class ReasonerLoRAConfig(CoTSFTConfig):
    """`CoTSFTConfig` with the choice of the layers that get a LoRA.

    Parameters:
        > Parameters that control the layers

        reasoner_layers (`str`, defaults to `"auto"`):
            Which layers: `"auto"` (a StepReasoner's reasoner; of a decoder-only model those that a ranking chooses),
            `"all"`, a range `"8-15"`, numbers `"0,3,5"`, or names `"model.layers.3"`.
        reasoner_share (`float`, defaults to `0.33`):
            Share of the layers that `"auto"` takes.
        ranking_records (`int`, defaults to `256`):
            Records that the ranking reads.

    > [!NOTE]
    > Rank, targets, rsLoRA, DoRA and the like are those of the `peft_config`. Defaults that differ from
    > `CoTSFTConfig`: `learning_rate` is 2e-4.
    """

    reasoner_layers: str = field(
        default="auto", metadata={"help": "auto, all, a range (8-15), numbers (0,3,5) or names (model.layers.3)."}
    )
    reasoner_share: float = field(default=0.33, metadata={"help": "Share of the layers that auto takes."})
    ranking_records: int = field(default=256, metadata={"help": "Records that auto's ranking reads."})
    learning_rate: float = field(default=2e-4, metadata={"help": "Initial learning rate."})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.reasoner_layers = str(self.reasoner_layers)  # a YAML's `reasoner_layers: 3` is a number
        if not 0 < self.reasoner_share <= 1:
            raise ValueError(f"reasoner_share must be above 0 and at most 1, got {self.reasoner_share}.")
        if self.ranking_records < 1:
            raise ValueError(f"ranking_records must be 1 or more, got {self.ranking_records}.")
