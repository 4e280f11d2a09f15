"""What StepReasoner is given: checked, and the end of the prompt read from the labels."""

import functools
from collections.abc import Callable
from typing import Any

import torch

from .cache_step_reasoner import StepReasonerCache

PROMPT_LEARNING = (
    "PEFT's prompt learning (prompt tuning, p-tuning, prefix tuning) is not supported by StepReasoner, which reads "
    "ids: use LoRA or another method that adapts layers."
)


def check_inputs(input_ids: Any, inputs_embeds: Any, attention_mask: Any, step_ids: Any, past_key_values: Any) -> None:
    """Refuse combinations of inputs that StepReasoner cannot read.

    Raises:
        ValueError: naming the input.
    """
    if (input_ids is None) == (inputs_embeds is None):
        raise ValueError("Give either input_ids or inputs_embeds.")
    if inputs_embeds is not None and step_ids is None:
        raise ValueError(
            "StepReasoner finds the steps from input_ids; with inputs_embeds pass step_ids as well (0 on the prompt, "
            f"then the number of the step); generate needs input_ids. {PROMPT_LEARNING}"
        )
    if attention_mask is not None and attention_mask.ndim != 2:
        raise ValueError("StepReasoner makes its own masks: attention_mask has to be [batch, time].")
    if past_key_values is not None and not isinstance(past_key_values, StepReasonerCache):
        raise ValueError(
            f"past_key_values is a {type(past_key_values).__name__}, but StepReasoner needs its own "
            f"StepReasonerCache: leave past_key_values out. {PROMPT_LEARNING}"
        )


def completion_of(
    labels: torch.Tensor,
    completion_mask: torch.Tensor | None,
    step_ids: torch.Tensor | None,
    prompt_length: int | None,
) -> torch.Tensor | None:
    """The completion mask that belongs to these labels, [batch, time]; `None` where something else tells the chain.

    Raises:
        ValueError: if `step_ids` put every label on the prompt.
    """
    if step_ids is None and prompt_length is None:
        return labels != -100 if completion_mask is None else completion_mask
    if step_ids is not None and prompt_length is None:
        wanted = labels != -100
        if bool(wanted.any()) and not bool((wanted & (step_ids > 0)).any()):
            raise ValueError(
                "step_ids are 0 (prompt) wherever there are labels, and nothing is predicted on the prompt: the loss "
                "would be constant. Number the steps from 1, or leave step_ids out."
            )
    return completion_mask


def telling(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A forward that was put in the place of the model's own, which first tells where the labels begin.

    TRL's fused forward keeps the labels to itself, and the stacks below it would not know where the prompt ends.
    """

    @functools.wraps(forward)
    def told(*args: Any, **kwargs: Any) -> Any:
        labels = kwargs.get("labels")
        if labels is not None:
            given = (kwargs.get(name) for name in ("completion_mask", "step_ids", "prompt_length"))
            mask = completion_of(labels, *given)
            kwargs = kwargs if mask is None else {**kwargs, "completion_mask": mask}
        return forward(*args, **kwargs)

    return told
