"""The arguments of what is generated: by the evaluation of a training run, by `evaluate` and by `ask`.

Nothing heavy is imported here, so that `--help` is fast.
"""

from dataclasses import dataclass
from typing import Any

from hf_reason._options import option
from hf_reason._renamed import renamed


@dataclass
class GenerationArguments:
    """How outputs are generated: the same options for the evaluation of a training run, `evaluate` and `ask`."""

    num_samples: int = option(1, "Outputs for each problem; more than one are sampled.", card=False, resumable=True)
    vote: bool = option(False, "The most frequent answer of num_samples outputs wins.", card=False, resumable=True)
    max_thought_tokens: int | None = option(
        None,
        "Longest thought in tokens; a longer one is closed by force. Default: no limit.",
        card=False,
        resumable=True,
    )

    def __post_init__(self) -> None:
        check_at_least_1(self, "num_samples")
        if self.vote and self.num_samples < 2:
            raise ValueError("vote compares several outputs of a problem: set num_samples to 2 or more.")


@dataclass
class InferenceArguments(GenerationArguments):
    """How a finished model is loaded and sampled by `evaluate` and `ask`."""

    temperature: float | None = option(
        None, "Sampling temperature. Default: greedy, or the model's for several samples."
    )
    seed: int = option(0, "Seed of whatever is random.")
    tokenizer_name_or_path: str | None = option(None, "Tokenizer. Default: the model's own.")
    dtype: str = option("auto", "Type of the weights: auto, float32, bfloat16, ...")
    trust_remote_code: bool = option(False, "Run code that comes with the model.")
    use_cpu: bool = option(False, "Do not use an accelerator.")


@renamed(eval_samples="num_samples", eval_max_new_tokens="eval_max_completion_length")
@renamed(eval_records="max_eval_records", test_records="max_test_records")
@dataclass
class EvaluationArguments(GenerationArguments):
    """How a training run evaluates what the model generates."""

    max_eval_records: int = option(
        100, "Validation records for which outputs are generated at each evaluation.", card=False, resumable=True
    )
    max_test_records: int | None = option(None, "Test records at the end. Default: all.", card=False, resumable=True)
    eval_max_completion_length: int = option(2048, "Longest output in tokens.", card=False, resumable=True)
    eval_generation_batch_size: int = option(16, "Sequences generated at once.", card=False, resumable=True)
    eval_temperature: float | None = option(
        None, "Sampling temperature. Default: greedy, or the model's for several samples.", card=False, resumable=True
    )
    eval_distractors: bool = option(
        False, "Also measure resistance to distractors in the problems at the end.", card=False, resumable=True
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_1(self, "eval_max_completion_length", "eval_generation_batch_size")

    def check(self, thinking: bool) -> None:
        """Refuse before the training what `evaluate_model` would refuse after it.

        Raises:
            ValueError: for a budget that is no part of the output, or of a thought that is not there.
        """
        check_thought_budget(self.max_thought_tokens, "eval_max_completion_length", self, thinking)

    def generation(self, thinking: bool) -> dict[str, Any]:
        """Keyword arguments of `evaluate_model`, the same for every evaluation of the run."""
        return {
            "max_completion_length": self.eval_max_completion_length,
            "max_thought_tokens": self.max_thought_tokens,
            "batch_size": self.eval_generation_batch_size,
            "thinking": thinking,
            "tagged": True,  # a model in training has to learn the tags: without any it closes 0% of its thoughts
        }

    def sampling(self) -> dict[str, Any]:
        """Further keyword arguments of `evaluate_model` for the test records, which may be sampled."""
        return {"num_samples": self.num_samples, "vote": self.vote, "temperature": self.eval_temperature}


def check_at_least_1(of: Any, *names: str) -> None:
    """Refuse counts below 1, by the names of their options.

    Raises:
        ValueError: for the first of them.
    """
    for name in names:
        if getattr(of, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(of, name)}.")


def check_thought_budget(budget: int | None, limit: str, of: Any, thinking: bool) -> None:
    """Refuse a longest thought that is no part of the longest output, or of a thought that is not there.

    Args:
        budget: Tokens of the thought; `None`: no limit.
        limit: Name of the option of the longest output.
        of: The arguments that have it.
        thinking: Whether there is a thought.

    Raises:
        ValueError: naming both options.
    """
    if budget is None:
        return
    if budget < 0:
        raise ValueError(f"max_thought_tokens must not be negative, got {budget}.")
    if not thinking:
        raise ValueError(f"max_thought_tokens={budget} needs thinking=true: leave it out.")
    if budget >= getattr(of, limit):
        raise ValueError(
            f"max_thought_tokens={budget} is a part of {limit}={getattr(of, limit)} and leaves nothing for the "
            f"answer: raise {limit}, or lower max_thought_tokens."
        )
