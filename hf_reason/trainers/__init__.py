"""Trainers: subclasses of TRL's."""

from hf_reason._lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "CoTSFTConfig": ".cot_sft_config",
        "CoTSFTTrainer": ".cot_sft",
        "DistillKLConfig": ".distill_kl_config",
        "DistillKLTrainer": ".distill_kl",
        "MuonWithAdamW": ".optim.muon",
        "ReasonerLoRAConfig": ".reasoner_lora_config",
        "ReasonerLoRATrainer": ".reasoner_lora",
        "StepGRPOConfig": ".step_grpo_config",
        "StepGRPOTrainer": ".step_grpo",
    },
)
