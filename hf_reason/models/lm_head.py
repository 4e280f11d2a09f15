"""The LM head of a model, as the chunked divergence reads it; a mixture's router logits, switched off."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hf_reason.losses import LMHead

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def causal_model(model: Any) -> Any:
    """The causal language model inside PEFT's wrapper, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


@contextmanager
def without_router_logits(model: Any) -> Iterator[None]:
    """While it lasts a mixture's config asks for no router logits.

    TRL turns `output_router_logits` on for every mixture that has a balance loss. With it transformers computes that
    loss in `generate`, too, where the mask is longer than the tokens: an error for every batch of several rows.
    """
    whole: Any = getattr(causal_model(model), "config", None)
    config = whole.get_text_config() if hasattr(whole, "get_text_config") else whole
    before = getattr(config, "output_router_logits", None)
    if before:
        config.output_router_logits = False
    try:
        yield
    finally:
        if before:
            config.output_router_logits = before


@contextmanager
def lm_head(model: "PreTrainedModel") -> Iterator[LMHead]:
    """The head's whole weight and bias, and how the model's config scales its logits.

    Under FSDP2 the sharded head is gathered; under ZeRO-3 it is gathered while the context lasts. The names by which
    configs scale logits are those that TRL's fused head knows.

    Raises:
        ValueError: if the head carries a LoRA, which the product with its weight would leave out.
    """
    from trl.trainer.utils import maybe_gather_lm_head_ctx

    head: Any = model.get_output_embeddings()
    if head is None:
        raise ValueError(f"{type(model).__name__} has no LM head.")
    if getattr(head, "lora_A", None) and not head.disable_adapters and not head.merged:
        raise ValueError("The LM head carries a LoRA, which the fused loss cannot read: merge it (merge_and_unload).")
    config = model.config.get_text_config()
    scale = next(
        (
            float(value)
            for name in ("logit_scale", "output_multiplier", "lm_head_multiplier")
            if (value := getattr(config, name, None)) is not None
        ),
        1.0,
    )
    if scale == 1.0 and (divisor := getattr(config, "logits_scaling", None)) is not None:
        # Granite and MiniCPM divide by it, HyperCLOVA X multiplies
        scale = float(divisor) if config.model_type == "hyperclovax" else 1 / float(divisor)
    weight: Any = head.weight
    bias: Any = getattr(head, "bias", None)
    with maybe_gather_lm_head_ctx(weight, bias):
        yield LMHead(_whole(weight), _whole(bias), scale, _softcap(config))


def _softcap(config: Any) -> float | None:
    value = getattr(config, "final_logit_softcapping", None)
    return float(value) if value else None


def _whole(weight: Any) -> Any:
    return weight.full_tensor() if hasattr(weight, "full_tensor") else weight
