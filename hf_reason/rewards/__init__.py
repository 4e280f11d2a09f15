"""Rewards for reinforcement learning on reasoning: plain functions with the signature of TRL's."""

from hf_reason._lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__, {"first_wrong": ".step_judge", "judge_steps": ".step_judge", "step_verdicts": ".step_judge"}
)
