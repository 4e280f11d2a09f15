"""An adapter merged into its base: a model that answers as both did, or an error."""

from typing import Any

import torch

from .peft_adapters import AdapterError

_PROBED = 16  # tokens that are read before and after
# of the largest logit; weights of 16 bits are rounded when an adapter is added to them
_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-3}
_COARSE = 0.1


def merge_adapter(model: Any) -> Any:
    """`merge_and_unload` that keeps the model's logits.

    An adapter on embeddings that the head shares would change the head, too, once it is merged: both are stored apart
    then (`tie_word_embeddings=False`), unless they end up the same.

    Args:
        model: A `PeftModel`, which is used up.

    Returns:
        The base model with the adapter in its weights.

    Raises:
        AdapterError: if the method has no such form, or the merged model gives other logits.
    """
    methods = {str(getattr(config.peft_type, "value", config.peft_type)) for config in model.peft_config.values()}
    name = " and ".join(sorted(methods))
    if any(config.is_prompt_learning for config in model.peft_config.values()):
        raise AdapterError(
            f"{name} adds virtual tokens and cannot be merged into weights. Keep the adapter on its base "
            "(adapter='continue' trains it further)."
        )
    before = _probe(model)
    base = model.get_base_model()
    untied = _untie(base)
    try:
        whole = model.merge_and_unload(safe_merge=True)
    except (AttributeError, TypeError, ValueError, NotImplementedError) as error:
        raise AdapterError(
            f"PEFT cannot merge {name} into this base ({' '.join(str(error).split())[:200]}). Keep the adapter on its "
            "base (adapter='continue' trains it further)."
        ) from error
    if untied:
        _tie_again(whole)
    after = _probe(whole)
    allowed = _TOLERANCE.get(whole.dtype, _COARSE) * max(1.0, before.abs().max().item())
    difference = (after - before).abs().max().item()
    if not difference <= allowed:  # NaN, too
        raise AdapterError(
            f"The merged model gives other logits than the base with its {name} adapter (difference {difference:.3g}, "
            f"at most {allowed:.3g} is rounding). Keep the adapter on its base."
        )
    return whole


def _probe(model: Any) -> torch.Tensor:
    """Logits after a few tokens from all over the vocabulary, float32 `(tokens, vocabulary)`."""
    rows = model.get_input_embeddings().weight.shape[0]
    ids = torch.linspace(0, rows - 1, _PROBED).long().unique().unsqueeze(0).to(model.device)
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            return model(input_ids=ids, use_cache=False).logits[0].float()
    finally:
        model.train(training)


def _untie(base: Any) -> bool:
    """Give the head a weight of its own if an adapter is on it or on the embeddings that it shares."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    ends = [base.get_input_embeddings(), base.get_output_embeddings()]
    if not any(isinstance(end, BaseTunerLayer | AuxiliaryTrainingWrapper) for end in ends):
        return False
    embeddings, head = (_original(end) for end in ends)
    if head is None or embeddings.weight.data_ptr() != head.weight.data_ptr():
        return False
    head.weight = torch.nn.Parameter(head.weight.detach().clone(), requires_grad=False)
    _set_tied(base, False)
    return True


def _original(module: Any) -> Any:
    while module is not None:
        inner = next(
            (part for name in ("token_adapter", "original_module", "base_layer") if (part := _part(module, name))),
            None,
        )
        if inner is None:
            return module
        module = inner
    return None


def _part(module: Any, name: str) -> Any:
    return module._modules.get(name)


def _tie_again(whole: Any) -> None:
    embeddings, head = whole.get_input_embeddings(), whole.get_output_embeddings()
    if torch.equal(embeddings.weight, head.weight):
        _set_tied(whole, True)
        whole.tie_weights()


def _set_tied(model: Any, tied: bool) -> None:
    for config in {id(c): c for c in (model.config, model.config.get_text_config())}.values():
        config.tie_word_embeddings = tied
    if hasattr(model, "get_expanded_tied_weights_keys"):
        model.all_tied_weights_keys = model.get_expanded_tied_weights_keys(all_submodels=False)
