"""The credit of single steps for a generation batch: completions read, judged, compared across all processes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import gather_object

from hf_reason.evaluation.scoring import answer_correct
from hf_reason.rewards import first_wrong, step_verdicts
from hf_reason.text.written import WrittenChain, read_chain
from hf_reason.trainers.step_credit import RunningMean, advantages_by_depth, on_tokens

from .grpo_data import ROW

if TYPE_CHECKING:
    from accelerate import Accelerator
    from transformers import PreTrainedTokenizerBase

    from .step_grpo_config import StepGRPOConfig

Verdicts = list[float | None]


@dataclass
class Batch:
    """This process's completions of a generation batch, and the verdicts on those of all processes.

    Attributes:
        inputs: The examples.
        chains: The completions, read.
        verdicts: On each one's steps.
        clipped: Whether it ended before an end-of-turn token.
        everything: Of all processes, in the order of the rewards: (row of the problem or -1, solved, verdicts, whether
            it has a thought, closed it, was clipped).
    """

    inputs: Sequence[dict[str, Any]]
    chains: list[WrittenChain]
    verdicts: list[Verdicts]
    clipped: list[bool]
    everything: list[tuple[int, bool | None, Verdicts, bool, bool, bool]] = field(default_factory=list)


@dataclass
class StepCredit:
    """Reads and compares.

    Attributes:
        args: The configuration.
        tokenizer: The model's.
        ends: Tokens that end a completion.
        running: Of `step_baseline="running"`.
    """

    args: "StepGRPOConfig"
    tokenizer: "PreTrainedTokenizerBase"
    ends: Sequence[int]
    running: RunningMean = field(default_factory=RunningMean)

    def read(
        self, inputs: Sequence[dict[str, Any]], prompt_ids: Sequence[list[int]], completion_ids: Sequence[list[int]]
    ) -> Batch:
        """Read and judge the completions of this process, and collect those of all."""
        chains, verdicts, rows = [], [], []
        for example, prompt, ids in zip(inputs, prompt_ids, completion_ids, strict=True):
            # the end of the prompt says whether the template has opened the thought
            tail = str(self.tokenizer.decode(prompt[-16:], skip_special_tokens=False))
            chain = read_chain(ids, self.tokenizer, tail, self.ends)
            reference = example.get("answer")
            reference = reference if isinstance(reference, str) and reference.strip() else None
            chains.append(chain)
            verdicts.append(step_verdicts(chain.steps, problem_of(example), reference or chain.answer))
            solved = None if reference is None else answer_correct(chain.answer, reference)
            clipped = not ids or ids[-1] not in self.ends
            rows.append((example.get(ROW, -1), solved, verdicts[-1], chain.has_thought, chain.closed, clipped))
        return Batch(inputs, chains, verdicts, [row[-1] for row in rows], list(gather_object(rows)))

    def advantages(self, batch: Batch, num_generations: int, first: int, length: int, training: bool) -> torch.Tensor:
        """`(completions, length)`: the advantage of each token's step, float32 on the CPU.

        Args:
            batch: Of `read`.
            num_generations: Completions of a group.
            first: The number of this process's first completion among those of all.
            length: Tokens of a padded completion.
            training: Whether the batch counts in the running mean.
        """
        stop, scale = self.args.stop_credit_at_error, self.args.scale_rewards != "none"
        every = [_until_error(row[2]) if stop else row[2] for row in batch.everything]
        if self.args.step_baseline == "running":
            if training:
                self.running.update(every)
            found = self.running.advantages(every, scale)
        else:
            groups = [every[start : start + num_generations] for start in range(0, len(every), num_generations)]
            found = [chain for group in groups for chain in advantages_by_depth(group, scale)]
        own = found[first : first + len(batch.chains)]
        rows = [on_tokens(chain.step_ids, values, length) for chain, values in zip(batch.chains, own, strict=True)]
        return torch.stack(rows)

    def figures(self, batch: Batch, num_generations: int) -> dict[str, float]:
        """What is logged of a generation batch; figures without anything to count are left out."""
        rows = batch.everything
        verdicts = [value for row in rows for value in row[2]]
        judged = [value for value in verdicts if value is not None]
        solved = [row[1] for row in rows]
        groups = [solved[start : start + num_generations] for start in range(0, len(solved), num_generations)]
        parts = {
            "steps/count": (len(verdicts), len(rows)),
            "steps/checked": (len(judged), len(verdicts)),
            "steps/right": (sum(value >= 0.5 for value in judged), len(judged)),
            "thoughts/closed": (sum(row[3] and row[4] for row in rows), len(rows)),
            "answers/right": (sum(value is True for value in solved), sum(value is not None for value in solved)),
            "groups/always_right": (sum(set(group) == {True} for group in groups), len(groups)),
            "groups/never_right": (sum(set(group) == {False} for group in groups), len(groups)),
        }
        return {name: part / whole for name, (part, whole) in parts.items() if whole}


def credited_fraction(credited: torch.Tensor, mask: torch.Tensor, accelerator: "Accelerator") -> float | None:
    """The fraction of all processes' tokens with an advantage of their step; `None` without tokens."""
    counts = torch.stack([(credited & mask).sum(), mask.sum()])
    part, whole = accelerator.gather(counts.unsqueeze(0)).sum(dim=0).tolist()
    return part / whole if whole else None


def _until_error(verdicts: Verdicts) -> Verdicts:
    """The verdicts up to the first wrong step; none after it."""
    wrong = first_wrong(verdicts)
    return verdicts if wrong is None else [*verdicts[: wrong + 1], *[None] * (len(verdicts) - wrong - 1)]


def problem_of(example: dict[str, Any]) -> str:
    """The text of an example's problem: a record's context, else its last user turn, else its prompt."""
    if isinstance(example.get("context"), str):
        return str(example["context"])
    prompt = example.get("prompt", "")
    if isinstance(prompt, str):
        return prompt
    turns = [message["content"] for message in prompt if message.get("role") == "user"]
    if not turns or isinstance(turns[-1], str):
        return turns[-1] if turns else ""
    return "\n".join(part.get("text") or "" for part in turns[-1])


def check_first_batch(batch: Batch, max_completion_length: int, step_weight: float) -> None:
    """Refuse to train on completions from which nothing can be learned.

    Raises:
        ValueError: if all are clipped, or none has a thought although steps are to be credited.
    """
    rows = batch.everything
    if all(row[5] for row in rows):
        raise ValueError(
            f"All {len(rows)} completions of the first batch were clipped at max_completion_length="
            f"{max_completion_length}: none came to an answer. Raise max_completion_length, or first train the model "
            "to end its answers (hf-reason sft)."
        )
    if step_weight > 0 and not any(row[3] for row in rows):
        raise ValueError(
            f"None of the {len(rows)} completions of the first batch has a thought (<think>...</think>), so there are "
            "no steps to credit. First train the model on chains of thought (hf-reason sft), or set step_weight=0."
        )
