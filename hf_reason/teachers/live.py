"""A teacher that runs beside the student: a model of its own, or the student without its LoRA."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from hf_reason.losses import LiveTargets, step_similarities, step_vectors
from hf_reason.models.lm_head import causal_model, lm_head

from .base import TeacherTargets, scored
from .errors import TeacherError

# What the teacher's backbone reads of a batch.
_MODEL_INPUTS = (
    "input_ids",
    "attention_mask",
    "position_ids",
    "cu_seq_lens_q",
    "cu_seq_lens_k",
    "max_length_q",
    "max_length_k",
    "seq_idx",
)


class LiveTeacher:
    """A model in this process, in its own precision, on its own device.

    Args:
        model: The teacher; or the student itself with `adapter_off`. It may be wrapped (DeepSpeed, FSDP): it is
            called through its wrapper.
        vocab_size: Number of ids that teacher and student share.
        adapter_off: The model is a PEFT student; its adapters are switched off while it teaches.
    """

    def __init__(self, model: Any, vocab_size: int, *, adapter_off: bool = False) -> None:
        self.model, self.vocab_size, self.adapter_off = model, vocab_size, adapter_off
        self._causal = causal_model(getattr(model, "module", model))

    @contextmanager
    def targets(self, batch: Mapping[str, torch.Tensor], *, path_consistency: bool) -> Iterator[TeacherTargets]:
        """See `Teacher.targets`.

        Raises:
            TeacherError: if the teacher's states are not finite.
        """
        # neither the switched-off adapter nor no_grad may reach into the caller's block, where the student runs
        with self._adapter_context(), torch.no_grad():
            states = self._states(batch)
            mask = scored(batch["labels"])
            chosen = states[:, :-1][mask.to(states.device)]
            similarities = None
            if path_consistency:
                vectors, _ = step_vectors(states, batch["step_ids"].to(states.device))
                similarities = step_similarities(vectors).to(mask.device)
        del states
        if not torch.isfinite(chosen).all():
            raise TeacherError(
                "The teacher gives NaN or infinite states: a float16 overflow or broken weights. Load it in "
                "bfloat16 or float32 (teacher_model_init_kwargs={'dtype': 'bfloat16'}), or check its files."
            )
        with lm_head(self._causal) as head:
            head = head._replace(weight=head.weight.detach())
            yield TeacherTargets(_on(LiveTargets(chosen, head), mask.device), similarities)

    def _adapter_context(self) -> Any:
        return self.model.disable_adapter() if self.adapter_off else nullcontext()

    def _states(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Last hidden states, `(batch, time, width)`."""
        device = self._causal.device
        inputs: dict[str, Any] = {
            name: batch[name].to(device) if isinstance(batch[name], torch.Tensor) else batch[name]
            for name in _MODEL_INPUTS
            if name in batch
        }
        training = self._causal.training
        self._causal.eval()
        captured: list[torch.Tensor] = []
        # through the wrapper, whose hooks gather sharded weights; the head is not called
        handle = self._causal.base_model.register_forward_hook(
            lambda module, arguments, output: captured.append(output.last_hidden_state)
        )
        try:
            # FSDP2 wraps nothing: its hooks, which gather what no layer holds, are on the outermost module itself
            in_place = hasattr(self._causal.get_input_embeddings().weight, "full_tensor")
            if (self.model is self._causal or self.adapter_off) and not in_place:
                self._causal.base_model(**inputs, use_cache=False)
            else:
                # one position is enough of the logits that a whole forward makes
                self.model(**inputs, use_cache=False, logits_to_keep=1)
        finally:
            handle.remove()
            self._causal.train(training)
        return captured[-1]

    def log_probs(self, sequences: list[list[int]]) -> list[Any]:
        """All log-probabilities after each token, a `(n - 1, vocab_size)` array a sequence; for the parity probe."""
        found = []
        for ids in sequences:
            batch = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}
            with torch.no_grad(), self._adapter_context():
                states = self._states(batch)[0, :-1]
                logits = self._causal.get_output_embeddings()(states)[:, : self.vocab_size]
            found.append(logits.float().log_softmax(dim=-1).cpu().numpy())
        return found


def _on(targets: LiveTargets, device: torch.device) -> LiveTargets:
    if targets.hidden_states.device == device:
        return targets
    head = targets.head
    bias = None if head.bias is None else head.bias.to(device)
    return LiveTargets(targets.hidden_states.to(device), head._replace(weight=head.weight.to(device), bias=bias))
