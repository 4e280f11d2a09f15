"""The models of `serve`: loaded once, each with its adapters."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hf_reason.cli.generation_arguments import InferenceArguments
from hf_reason.models.adapter_loading import adapter_place
from hf_reason.models.peft_adapters import AdapterError

from .inference import check_for_inference, load_for_inference
from .names import named

if TYPE_CHECKING:
    from hf_reason.serving.engines.served_model import ServedModel


def load_served(
    models: Sequence[str], adapters: Sequence[str], args: InferenceArguments
) -> "tuple[list[ServedModel], list[str]]":
    """The models in their order, and warnings about them.

    Args:
        models: `name=folder` or `folder` of each.
        adapters: `name=folder` or `folder`; with several models `model:name=folder`.
        args: How they are loaded.

    Raises:
        ValueError: for a model or an adapter that cannot be loaded, or names that are not unique.
    """
    from hf_reason.cli.start import warnings_about
    from hf_reason.serving.engines.base import ModelCard
    from hf_reason.serving.engines.served_model import ServedModel
    from hf_reason.serving.revision import revision_of, written_at
    from hf_reason.text import saved_instructions

    places = [named(given) for given in models]
    names = [name for name, _ in places]
    wrong = [name for name in names if not name or ":" in name or names.count(name) > 1]
    if wrong:
        raise ValueError(
            f"model_name_or_path: {wrong[0]!r} names no model, or several. Give each a name: name=folder."
        )
    wanted: dict[str, dict[str, str]] = {name: {} for name in names}
    for given in adapters:
        base, name, place = _adapter(given, names)
        if name in wanted[base]:
            raise ValueError(f"adapters: {base} has two adapters called {name}. Give them names: name=folder.")
        wanted[base][name] = place
    for _, place in places:  # before the first has been read for minutes
        check_for_inference(place, args)
    served, warnings = [], []
    for name, place in places:
        model, tokenizer = load_for_inference(place, args)
        if wanted[name] and adapter_place(place) is not None:
            raise ValueError(f"{place} is an adapter itself. Serve its base, and give all of them in --adapters.")
        revision = revision_of(place, model)
        cards = {
            adapter: ModelCard(f"{name}:{adapter}", written_at(at), name, f"{revision}-{revision_of(at)}")
            for adapter, at in wanted[name].items()
        }
        model = _with_adapters(model, wanted[name])
        card = ModelCard(name, written_at(place), revision=revision)
        probe = [{"context": "1+1=?", "steps": [], "answer": ""}]
        warnings += [f"{name}: {warning}" for warning in warnings_about(tokenizer, probe)]
        served.append(ServedModel(card, model.eval(), tokenizer, saved_instructions(place), cards))
    return served, warnings


def _adapter(given: str, models: Sequence[str]) -> tuple[str, str, str]:
    name, place = named(given)
    base, colon, own = name.rpartition(":")
    base, own = (base, own) if colon else (models[0], name)
    if base not in models or (len(models) > 1 and not colon) or not own or "." in own:
        raise ValueError(
            f"adapters: {given!r} does not say which adapter of which model. Write name=folder (no dots in the name), "
            f"or model:name=folder with several models, which are {', '.join(models)}."
        )
    return base, own, place


def _with_adapters(model: Any, adapters: dict[str, str]) -> Any:
    """The model with all these adapters on it, none of them merged."""
    from peft import PeftConfig, PeftModel

    from hf_reason.models.base_weights import base_fingerprint
    from hf_reason.models.peft_adapters import check_base

    if not adapters:
        return model
    fingerprint, adapted = base_fingerprint(model), None
    for name, given in adapters.items():
        place = adapter_place(given)
        if place is None:
            raise ValueError(f"adapters: there is no adapter in {given} (no adapter_config.json).")
        if PeftConfig.from_pretrained(place).is_prompt_learning:
            raise ValueError(
                f"adapters: {given} is prompt learning, which is served alone: --model_name_or_path {given}."
            )
        check_base(place, model, fingerprint)
        try:
            if adapted is None:
                adapted = PeftModel.from_pretrained(model, place, adapter_name=name)
            else:
                adapted.load_adapter(place, name)
        except RuntimeError as error:
            raise AdapterError(
                f"The adapter {given} does not fit its model: {' '.join(str(error).split())[:300]}"
            ) from error
    return adapted
