"""Rewards for reinforcement learning on reasoning: plain functions with the signature of TRL's."""

from hf_reason._lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "answer_reward": ".answer",
        "get_answer_reward": ".answer",
        "step_reward": ".steps",
        "get_step_reward": ".steps",
        "format_reward": ".format",
        "get_format_reward": ".format",
        "language_reward": ".language",
        "get_language_reward": ".language",
        "get_length_reward": ".length",
        "get_cosine_length_reward": ".length",
        "repetition_reward": ".repetition",
        "get_repetition_reward": ".repetition",
        "first_wrong": ".step_judge",
        "judge_steps": ".step_judge",
        "step_verdicts": ".step_judge",
    },
)
