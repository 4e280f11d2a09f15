"""StepReasoner in `generate`: its own cache, and what of transformers' generation does not fit it."""

from typing import Any

from transformers.generation import GenerationMode

from .cache_step_reasoner import StepReasonerCache
from .inputs_step_reasoner import PROMPT_LEARNING


class StepReasonerGeneration:
    """The part of `StepReasonerForCausalLM` that `generate` calls; in front of `GenerationMixin`."""

    config: Any  # StepReasonerConfig
    model: Any  # StepReasonerModel
    training: bool

    def _prepare_cache_for_generation(self, generation_config, model_kwargs, generation_mode, *args, **kwargs) -> bool:
        if generation_config.cache_implementation not in (None, "dynamic"):
            raise ValueError(
                f"cache_implementation={generation_config.cache_implementation!r}: StepReasoner has its own cache, "
                "which grows by a piece at a time; static, offloaded and quantised caches do not fit it. Leave it out."
            )
        # PEFT puts its own method here while its model generates
        owner = getattr(vars(self).get("prepare_inputs_for_generation"), "__self__", None)
        if getattr(getattr(owner, "active_peft_config", None), "is_prompt_learning", False):
            raise ValueError(PROMPT_LEARNING)
        assisted = generation_mode == GenerationMode.ASSISTED_GENERATION
        if assisted or generation_config.prefill_chunk_size is not None:
            raise ValueError(
                "StepReasoner reads its prompt in both directions and cannot cut its cache back: assisted generation "
                "and prefill_chunk_size are not available."
            )
        if self.training and self.model.gradient_checkpointing:
            # the layers keep nothing, so every token reads the whole text again (the config is generate's own copy)
            generation_config.use_cache = False
            return False
        given = model_kwargs.get("past_key_values")
        if given is not None:
            given._is_user_defined = True  # generate leaves a cache whole that outlives it
        elif generation_config.use_cache is not False:
            model_kwargs["past_key_values"] = StepReasonerCache(self.config)
        return "past_key_values" in model_kwargs

    def _update_model_kwargs_for_generation(self, outputs, model_kwargs, *args, **kwargs):
        if model_kwargs.get("past_key_values") is None:
            # without a cache the next call sees the whole text again and has to know what the prompt was
            # (the mask is dropped where there is no padding; the positions are always there)
            known = model_kwargs.get("attention_mask")
            known = model_kwargs["position_ids"] if known is None else known
            model_kwargs.setdefault("prompt_length", known.shape[1])
        return super()._update_model_kwargs_for_generation(  # type: ignore[misc]  # GenerationMixin's
            outputs, model_kwargs, *args, **kwargs
        )

    def init_continuous_batching(self, *args, **kwargs):
        raise ValueError(
            "Continuous batching (generate_batch, transformers serve --continuous-batching) keeps its cache in pages, "
            "and StepReasoner has a cache of its own. Call generate with a batch of prompts, padded on the left."
        )


__all__ = ["StepReasonerGeneration"]
