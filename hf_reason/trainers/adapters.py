"""A model and its adapter before a run begins: loading it by name, and what is refused."""

from typing import Any

from transformers import TrainerCallback

from hf_reason.models.base_weights import base_fingerprint
from hf_reason.models.lm_head import causal_model
from hf_reason.models.peft_adapters import changes_base, known_base

from .untouched_base import check_adapter


def load_model(name: str, args: Any, given: dict[str, Any]) -> Any:
    """The model of that name, as `SFTTrainer` would load it; here, so that it is seen before it gets an adapter.

    Args:
        name: A folder or a name on the Hub.
        args: The training configuration. Its `model_init_kwargs` are used up, so that TRL does not warn about them.
        given: `SFTTrainer`'s further arguments, from which `quantization_config` is taken out.
    """
    from transformers import set_seed
    from trl.trainer.utils import create_model_from_path

    set_seed(args.seed)  # for weights that the checkpoint lacks
    options = {"trust_remote_code": args.trust_remote_code, **(args.model_init_kwargs or {})}
    quantization = given.pop("quantization_config", None)
    if quantization is not None:
        options["quantization_config"] = quantization
    if args.distributed_state.distributed_type in ("MULTI_GPU", "DEEPSPEED"):
        options["device_map"] = None
    args.model_init_kwargs = None
    return create_model_from_path(name, **options)


def check_adapters(model: Any, config: Any, args: Any) -> dict[str, Any] | None:
    """Refuse adapters that could not be used after the training, and hash the base that they belong to.

    Args:
        model: The model before it gets an adapter, or with some.
        config: The `PeftConfig` of the adapter that it will get, if any.
        args: The training configuration.

    Returns:
        See `base_fingerprint`; `None` without adapters, and if the adapters have changed the base already.

    Raises:
        ValueError: if an adapter is refused, or the model's adapters cannot be saved.
    """
    carried = getattr(model, "peft_config", None) or {}
    if carried and not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(
            "The model carries an adapter of which no weight is trainable, as it is loaded for inference. Load it "
            "with peft.PeftModel.from_pretrained(base, folder, is_trainable=True), or merge it into the base."
        )
    if getattr(config, "inference_mode", False):
        raise ValueError(
            "peft_config has inference_mode=True, as every saved adapter_config.json has: nothing would be trained. "
            "Set peft_config.inference_mode = False for a new adapter; to train the saved one further, load it with "
            "peft.PeftModel.from_pretrained(base, folder, is_trainable=True)."
        )
    for one in (*carried.values(), *([] if config is None else [config])):
        check_adapter(one, args)
        if getattr(one, "is_prompt_learning", False):
            _refuse_virtual_tokens(model, str(getattr(one.peft_type, "value", one.peft_type)))
    if not carried and config is None:
        return None
    if any(changes_base(one) for one in carried.values()):
        return known_base(model)
    return base_fingerprint(model)


def _refuse_virtual_tokens(model: Any, kind: str) -> None:
    """Refuse them where the model's own forward would, at the first step.

    Raises:
        ValueError: for a StepReasoner, and for a prefix in the cache of a LoAR.
    """
    causal = causal_model(model)
    if getattr(causal.config, "model_type", None) == "step_reasoner":
        raise ValueError(f"StepReasoner reads ids, and {kind} adds virtual tokens. Use LoRA or another method.")
    if hasattr(causal, "loar") and kind == "PREFIX_TUNING":
        raise ValueError(f"{kind} fills a cache of its own, so it does not work together with LoAR. Use LoRA.")


class RankAllocation(TrainerCallback):
    """Lets AdaLoRA move its ranks to where they matter, after each step and before the gradients are cleared."""

    def on_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        model.base_model.update_and_allocate(state.global_step)


def begin_adapters(model: Any) -> list[TrainerCallback]:
    """Refuse an adapter that the loss would leave out, and return what must happen during the training of others.

    Args:
        model: The model with its adapters, unwrapped.

    Raises:
        ValueError: if tokens of the LM head are trained. TRL refuses every other adapter of the head.
    """
    from peft.utils.other import TrainableTokensWrapper

    if hasattr(model, "get_base_model") and isinstance(model.get_output_embeddings(), TrainableTokensWrapper):
        raise ValueError(
            "trainable_token_indices puts an adapter on the LM head (which is the embeddings, too, if they are tied), "
            "and the loss reads the head's weight directly, so it would never be trained. Train them whole: "
            "modules_to_save=['embed_tokens'], with ensure_weight_tying=True if they are tied."
        )
    tuner = getattr(model, "base_model", None)
    return [RankAllocation()] if hasattr(tuner, "update_and_allocate") else []
