"""Model architectures of the project, each a folder that `save_pretrained` can copy next to a checkpoint."""

from hf_reason._lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "StepReasonerConfig": ".step_reasoner",
        "StepReasonerForCausalLM": ".step_reasoner",
        "StepReasonerModel": ".step_reasoner",
        "student_from_teacher": ".student",
        "adapter_of": ".peft_adapters",
        "merge_adapter": ".adapter_merging",
        "load_adapters": ".peft_adapters",
        "LoAR": ".loar",
        "LoARConfig": ".loar",
        "apply_loar": ".loar",
        "has_loar": ".loar",
        "search_budgets": ".loar",
        "calibrate_routers": ".loar",
        "with_saved_loar": ".loar",
        "set_rope_scaling": ".long_context",
        "set_sliding_window": ".long_context",
    },
)
