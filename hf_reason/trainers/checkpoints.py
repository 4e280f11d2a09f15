"""What a run saves, pushes and loads again: adapters, routers, templates, arguments, facts about its data."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, HubStrategy
from trl import SFTTrainer

from hf_reason._private import public
from hf_reason.models.adapter_files import (
    check_bases,
    check_same_adapters,
    restore_adapters,
    restore_trained,
    save_adapter_files,
)
from hf_reason.models.lm_head import without_router_logits
from hf_reason.models.saved_names import restore_renamed
from hf_reason.text.instructions import save_instructions

from .checkpoint_parts import put_in_order
from .finite import FiniteLoss
from .resumed_data import check_data_facts, save_data_facts
from .resuming import checkpoints_of
from .routed import Routing
from .saved_files import public_bases, save_public_arguments, shown_arguments, write_card

if TYPE_CHECKING:
    from transformers import PreTrainedModel, Trainer
else:
    Trainer = object


class CheckpointFiles(Trainer):
    """The part of a trainer that writes and reads files; it stands before TRL's trainer among the bases.

    Attributes:
        instructions: Template of each domain.
        routing: The LoAR of the model.
        base: Of an adapter: which weights it belongs to.
        model_card: The card to write; `None`: TRL's.
    """

    instructions: dict[str, str]
    routing: Routing
    base: dict[str, Any] | None = None
    model_card: str | None = None
    _while_uploading: ExitStack | None = None
    _finite: FiniteLoss | None = None

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        loss = super().training_step(*args, **kwargs)
        if self._finite is None:
            self._finite = FiniteLoss()
        if self.accelerator.scaler is None:  # which leaves such steps of float16 out
            self._finite.note(loss, self.state.global_step + 1)
        return loss

    def log(self, *args: Any, **kwargs: Any) -> None:
        if self._finite is not None:
            self._finite.check()
        super().log(*args, **kwargs)

    def save_model(self, *args: Any, **kwargs: Any) -> None:
        if self._finite is not None and not (self.is_deepspeed_enabled or self.is_fsdp_enabled):
            self._finite.check_weights(self._unwrapped())
        super().save_model(*args, **kwargs)

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        if self.args.should_save:
            put_in_order([path for _, path in checkpoints_of(str(self.args.output_dir))])
        super()._save_checkpoint(*args, **kwargs)

    def _unwrapped(self) -> "PreTrainedModel":
        return self.accelerator.unwrap_model(self.model)  # type: ignore[no-any-return]

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        with without_router_logits(self._unwrapped()):  # a run turns them on by itself
            super()._save(output_dir, state_dict)
        folder = output_dir or str(self.args.output_dir)
        self.routing.save(folder)
        if self.instructions:
            save_instructions(folder, self.instructions)
        save_adapter_files(folder, self._unwrapped(), self.base)
        save_public_arguments(folder, self.args)
        if self.args.should_save and Path(folder).name.startswith(PREFIX_CHECKPOINT_DIR):
            save_data_facts(folder, self.train_dataset, self.args)

    def save_state(self) -> None:
        best = self.state.best_model_checkpoint
        # This file is pushed; a resume reads that of a checkpoint.
        self.state.best_model_checkpoint = public(best)
        try:
            super().save_state()
        finally:
            self.state.best_model_checkpoint = best

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        args = self.args
        # It pickles the arguments into the folder that it uploads.
        self.args = shown_arguments(args)
        try:
            if not self.is_world_process_zero() or args.hub_strategy == HubStrategy.END:
                return
            with public_bases(str(args.output_dir)) as has_place:
                super()._push_from_checkpoint(checkpoint_folder)
                if has_place and self.push_in_progress is not None:  # the files are read in the background
                    self.push_in_progress.wait_until_done()
        finally:
            self.args = args

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        check_bases(resume_from_checkpoint, self.model, self.base)
        check_same_adapters(resume_from_checkpoint, self._unwrapped())
        if not restore_trained(resume_from_checkpoint, self.model) and not self._restore_renamed(
            resume_from_checkpoint
        ):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        self.routing.load(resume_from_checkpoint)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        # however the weights were loaded (DeepSpeed, FSDP, ...)
        if checkpoint is not None:
            check_data_facts(checkpoint, self.train_dataset, self.args)
        super()._load_optimizer_and_scheduler(checkpoint)

    def _load_best_model(self) -> None:
        best = str(self.state.best_model_checkpoint)
        sharded = self.is_deepspeed_enabled or self.is_fsdp_enabled
        if sharded or not (restore_adapters(best, self.model) or self._restore_renamed(best)):
            super()._load_best_model()
        self.routing.load(best)

    def _restore_renamed(self, folder: str) -> bool:
        sharded = self.is_deepspeed_enabled or self.is_fsdp_enabled
        return not sharded and restore_renamed(folder, self._unwrapped())

    def push_to_hub(self, *args: Any, **kwargs: Any) -> Any:
        blocking = kwargs.get("blocking", args[1] if len(args) > 1 else True)
        if not blocking:  # the files are read later
            return super().push_to_hub(*args, **kwargs)
        try:
            with ExitStack() as self._while_uploading:
                return super().push_to_hub(*args, **kwargs)
        finally:
            self._while_uploading = None

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        if self.model_card is None:
            super().create_model_card(*args, **kwargs)
        elif self.is_world_process_zero():
            write_card(str(self.args.output_dir), self.model_card)
        if self._while_uploading is not None and self.is_world_process_zero():  # saved, and about to be uploaded
            self._while_uploading.enter_context(public_bases(str(self.args.output_dir)))


class CheckpointTrainer(CheckpointFiles, SFTTrainer):
    """`SFTTrainer` with these files."""
