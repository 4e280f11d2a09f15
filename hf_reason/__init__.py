"""hf_reason: from DeepSeek-R1 distilled traces to small, fast Chinese reasoning models.

Public names are imported when they are first used, so `import hf_reason` stays fast. From this import on transformers'
Auto classes know the models of the project, whichever of the two packages was imported first.
"""

from . import _registration
from ._lazy import lazy_exports
from .version import __version__ as __version__

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "CoTSFTConfig": ".trainers",
        "CoTSFTTrainer": ".trainers",
        "DistillKLConfig": ".trainers",
        "DistillKLTrainer": ".trainers",
        "ReasonerLoRAConfig": ".trainers",
        "ReasonerLoRATrainer": ".trainers",
        "StepGRPOConfig": ".trainers",
        "StepGRPOTrainer": ".trainers",
        "LoAR": ".models",
        "LoARConfig": ".models",
        "apply_loar": ".models",
        "load_adapters": ".models",
        "search_budgets": ".models",
        "calibrate_routers": ".models",
        "load_cot_sft_dataset": ".data",
        "evaluate_model": ".evaluation",
        "generate_cot": ".generation",
        "answer_reward": ".rewards",
        "step_reward": ".rewards",
        "format_reward": ".rewards",
        "language_reward": ".rewards",
        "repetition_reward": ".rewards",
        "get_length_reward": ".rewards",
        "get_cosine_length_reward": ".rewards",
        "step_verdicts": ".rewards",
        "render": ".text",
        "parse": ".text",
        "encode": ".text",
        "StepReasonerConfig": ".models",
        "StepReasonerForCausalLM": ".models",
        "StepReasonerModel": ".models",
        "student_from_teacher": ".models",
    },
)

_registration.install()
