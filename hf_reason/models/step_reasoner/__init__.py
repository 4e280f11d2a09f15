"""StepReasoner: encoder, reasoner and decoder; a causal language model on the outside."""

from hf_reason._lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "StepReasonerCache": ".cache_step_reasoner",
        "StepReasonerConfig": ".configuration_step_reasoner",
        "StepReasonerForCausalLM": ".modeling_step_reasoner",
        "StepReasonerModel": ".modeling_step_reasoner",
    },
)
