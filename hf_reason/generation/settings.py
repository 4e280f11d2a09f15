"""What a run of `generate` is asked for: its settings, and nothing that the model's own generation config adds."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from transformers import GenerationConfig, PreTrainedTokenizerBase

from hf_reason.models.lm_head import causal_model
from hf_reason.text.tokens import end_token_id

from .limits import embedding_rows

# Sampling settings that do nothing; transformers' defaults, which its validation lets pass in greedy decoding.
_GREEDY = {"do_sample": False, "temperature": 1.0, "top_p": 1.0, "top_k": 50}
# The whole distribution. A model's own values replace them only when sampling is asked for without a temperature.
_SAMPLING = {"temperature": 1.0, "top_p": 1.0, "top_k": 0}

_LENGTHS = "The lengths are arguments of their own: max_thought_tokens, max_answer_tokens, max_completion_length."
_SEVERAL = "Several tokens a step cannot be counted against a budget or steered in a batch."
_GONE = "transformers no longer contains it."
_CALL = "It is an argument of generate() and no setting: call model.generate with encode_prompt's ids."
_REFUSED = {
    "num_return_sequences": "Use num_samples.",
    **dict.fromkeys(("max_new_tokens", "max_length"), _LENGTHS),
    "max_time": "Outputs would depend on the speed of the machine. Lower the budgets.",
    "stop_strings": "Outputs end at token ids: give eos_token_id, or cut the text afterwards.",
    "token_healing": "It would rewrite the prompt.",
    **dict.fromkeys(("prompt_lookup_num_tokens", "assistant_early_exit", "use_mtp", "is_assistant"), _SEVERAL),
    **dict.fromkeys(("penalty_alpha", "dola_layers", "low_memory", "constraints", "force_words_ids"), _GONE),
    **dict.fromkeys(("num_beam_groups", "diversity_penalty"), _GONE),
    **dict.fromkeys(("logits_processor", "stopping_criteria", "prefix_allowed_tokens_fn", "streamer"), _CALL),
    **dict.fromkeys(("assistant_model", "custom_generate", "synced_gpus", "negative_prompt_ids"), _CALL),
}


def stop_ids(model: Any, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Every id that ends an output: the model's own, the tokenizer's EOS and the end of the assistant's turn.

    Ids beyond the model's vocabulary, which it cannot write, are left out.
    """
    config = getattr(model, "generation_config", None)
    own = getattr(config, "eos_token_id", None)
    ids = list(own) if isinstance(own, list | tuple) else [own]
    ids.append(tokenizer.eos_token_id)
    with suppress(ValueError):  # no EOS at all: outputs end at max_new_tokens
        ids.append(end_token_id(tokenizer))
    rows = embedding_rows(model)
    known = [int(token) for token in ids if token is not None and 0 <= token < (rows or math.inf)]
    return list(dict.fromkeys(known))


def _pad_id(model: Any, tokenizer: PreTrainedTokenizerBase, stops: Sequence[int]) -> int:
    """Any id of the model's vocabulary will do, for padding is masked: without a pad token a stop id (or 0)."""
    own = getattr(getattr(model, "generation_config", None), "pad_token_id", None)
    rows = embedding_rows(model) or math.inf
    candidates = (tokenizer.pad_token_id, own, *stops, 0)
    return int(next(token for token in candidates if token is not None and 0 <= token < rows))


def generation_config(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_new_tokens: int,
    num_samples: int = 1,
    temperature: float | None = None,
    generation_kwargs: Mapping[str, Any] | None = None,
) -> GenerationConfig:
    """The settings of a run: what is asked for here, the model's own stop tokens, and transformers' defaults.

    Nothing else of the model's own generation config holds (`min_p`, `repetition_penalty`, `num_beams`, ...; see
    `only_asked_for`). Decoding is greedy unless several samples, a temperature or `do_sample` are asked for. A
    temperature samples from the whole distribution; without one, the model's own `temperature`, `top_p` and `top_k`
    say how to sample. `generation_kwargs` come last.

    Raises:
        ValueError: for an encoder-decoder model, a temperature that cannot be sampled with, several samples that would
            be equal, or settings that are unknown, unsupported or contradict each other.
    """
    model = causal_model(model)
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        raise ValueError(
            f"{type(model).__name__} is an encoder-decoder model, and chains are generated with decoder-only models."
        )
    if temperature is not None and not 0 <= temperature < math.inf:
        raise ValueError(f"temperature is {temperature}; it must be a finite number, 0 (greedy) or above.")
    if num_samples > 1 and temperature == 0:
        raise ValueError(f"temperature=0 makes all num_samples={num_samples} samples equal. Use num_samples=1.")
    given = {name: value for name, value in (generation_kwargs or {}).items() if value is not None}
    own = getattr(model, "generation_config", None)
    _check(given, own)
    stops = stop_ids(model, tokenizer)
    settings: dict[str, Any] = dict(_GREEDY)
    if num_samples > 1 or temperature or given.get("do_sample"):
        settings = {"do_sample": True, **_SAMPLING}
        if temperature:
            settings["temperature"] = float(temperature)
        elif "temperature" not in given:
            published = {name: getattr(own, name, None) for name in _SAMPLING}
            published["temperature"] = float(published["temperature"] or 1.0)  # 0 is some models' word for greedy
            settings |= {name: value for name, value in published.items() if value is not None}
        # A NaN in the probabilities is an error on the CPU and kills the process on a GPU.
        settings["remove_invalid_values"] = True
    settings |= {
        "max_new_tokens": max_new_tokens,
        "use_cache": True,
        "eos_token_id": stops or None,
        "pad_token_id": _pad_id(model, tokenizer, stops),
        **given,
    }
    config = GenerationConfig()
    config.update(**settings)
    try:
        config.validate(strict=True)
    except ValueError as error:
        raise ValueError(f"generation_kwargs: {' '.join(str(error).split())}") from error
    return config


def _check(given: Mapping[str, Any], own: Any) -> None:
    """Refuse settings that cannot have the effect that they name."""
    neutral = {"num_return_sequences": 1, "num_beam_groups": 1, "diversity_penalty": 0.0}
    for name, value in given.items():
        if name in _REFUSED and value not in (False, neutral.get(name)):
            raise ValueError(f"generation_kwargs: {name} is not accepted here. {_REFUSED[name]}")
    known = GenerationConfig()
    unknown = [name for name in given if not hasattr(known, name) and not hasattr(own, name)]
    if unknown:
        raise ValueError(f"generation_kwargs: GenerationConfig has no setting {', '.join(unknown)}.")


def changed(config: GenerationConfig, **values: Any) -> GenerationConfig:
    """A copy with other values, all of them set, so that nothing is filled in from a model's own."""
    copy = GenerationConfig()
    copy.update(**{**config.to_dict(), **values})
    return copy


@contextmanager
def only_asked_for(model: Any) -> Iterator[None]:
    """Inside it `generate` adds nothing to the config that it is given.

    transformers fills every setting that is unset there from the model's own generation config, and for most of them
    no value says "not this". So the model has an empty one meanwhile.
    """
    holder = causal_model(model)
    own = getattr(holder, "generation_config", None)
    if own is None:
        yield
        return
    holder.generation_config = GenerationConfig()
    try:
        yield
    finally:
        holder.generation_config = own
