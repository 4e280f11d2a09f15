"""Configuration of `CoTSFTTrainer`."""

from dataclasses import dataclass, field

import torch
from trl import SFTConfig

_OVERLONG = ("drop", "split", "truncate", "error")


@dataclass
class CoTSFTConfig(SFTConfig):
    """`SFTConfig` with what is particular to chains of thought.

    Parameters:
        > Parameters that control the loss

        thought_weight (`float`, defaults to `1.0`):
            Weight of the thought's tokens in the loss.
        answer_weight (`float`, defaults to `1.0`):
            Weight of the answer's tokens in the loss.
        step_weighting (`str`, defaults to `"token"`):
            `"token"`: every token counts alike. `"step"`: every step counts alike, however long it is.

        > Parameters that control the data

        overlong (`str`, defaults to `"drop"`):
            What happens to an example longer than `max_length`: `"drop"` (counted and printed), `"split"` (into
            pieces of whole steps, each with the prompt; see `hf_reason.text.split_record`), `"truncate"` (cut at the
            end; the model may not learn to close its thought) or `"error"`.
        overlap_steps (`int`, defaults to `1`):
            With `overlong="split"`: steps before a piece that it has as context, without a loss on them.

        > Parameters that control the optimizer

        muon_learning_rate (`float`, *optional*):
            Trains the matrices of the layers with Muon at this learning rate; embeddings, norms and biases stay with
            AdamW at `learning_rate`. For models trained from scratch.

    > [!NOTE]
    > `label_smoothing_factor` is computed from the hidden states here; it costs no second forward pass as in TRL.
    > Defaults that differ from `SFTConfig`: `max_length` is 4096, since reasoning traces are long; `bf16` is off where
    > there is no accelerator.
    """

    thought_weight: float = field(default=1.0, metadata={"help": "Weight of the thought's tokens in the loss."})
    answer_weight: float = field(default=1.0, metadata={"help": "Weight of the answer's tokens in the loss."})
    step_weighting: str = field(
        default="token",
        metadata={"help": "Whether every token or every step counts alike.", "choices": ["token", "step"]},
    )
    overlong: str = field(
        default="drop",
        metadata={"help": "What happens to examples over max_length.", "choices": list(_OVERLONG)},
    )
    overlap_steps: int = field(
        default=1, metadata={"help": "Steps of context that a piece of a split chain has before its own."}
    )
    muon_learning_rate: float | None = field(
        default=None, metadata={"help": "Learning rate of Muon for the layers' matrices. Unset: no Muon."}
    )
    max_length: int | None = field(default=4096, metadata={"help": "Longest example in tokens."})

    def __post_init__(self) -> None:
        if self.activation_checkpointing is None:
            # the older of the two names is TRL's default and would warn at every start
            self.activation_checkpointing = self.gradient_checkpointing
        if self.bf16 is None and not torch.accelerator.is_available():
            self.bf16 = False  # TRL's default is True, which a machine without an accelerator refuses
        super().__post_init__()
        if self.packing and self.packing_strategy != "bfd":
            raise ValueError(
                f"packing_strategy={self.packing_strategy!r} cuts chains in two. Use 'bfd': it packs whole examples."
            )
        for name, known in (("step_weighting", ("token", "step")), ("overlong", _OVERLONG)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}.")
        for name in ("thought_weight", "answer_weight", "overlap_steps"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}.")
        if self.overlong == "split" and self.max_length is None:
            raise ValueError("overlong='split' needs a max_length: the length of the longest piece.")
        if self.thought_weight == self.answer_weight == 0:
            raise ValueError("thought_weight and answer_weight are both 0, so there is no loss. Set one above 0.")
        if self.loss_type != "nll" and (self.is_weighted or self.label_smoothing_factor > 0):
            raise ValueError(
                f"loss_type={self.loss_type!r} has its own token weights and cannot be combined with thought_weight, "
                "answer_weight, step_weighting or label_smoothing_factor. Use loss_type='nll'."
            )

    @property
    def is_weighted(self) -> bool:
        """Whether the loss differs from the plain mean over target tokens."""
        return (self.thought_weight, self.answer_weight, self.step_weighting) != (1.0, 1.0, "token")
