"""A StepReasoner whose every layer starts as a copy of a layer of a decoder-only checkpoint."""

import copy
import os
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.initialization import no_init_weights

from .configuration_step_reasoner import StepReasonerConfig

Layers = int | Sequence[int] | None

STACKS = ("encoder", "reasoner", "decoder")
_PROPORTION = {"encoder": 12, "reasoner": 6, "decoder": 3}
# what distinguishes the attention of the families whose block is StepReasoner's
_FAMILIES: dict[str, dict[str, bool]] = {
    "llama": {"attention_bias": False, "use_qk_norm": False},
    "mistral": {"attention_bias": False, "use_qk_norm": False},
    "qwen2": {"attention_bias": True, "use_qk_norm": False},
    "qwen3": {"attention_bias": False, "use_qk_norm": True},
}
_SAME_FIELDS = [
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_act",
    "max_position_embeddings",
    "initializer_range",
    "rms_norm_eps",
    "attention_dropout",
    "use_cache",
    "tie_word_embeddings",
    "rope_parameters",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
]
_HUB_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "token", "trust_remote_code")
_ATTENTION = ("eager", "sdpa", "flex_attention")


def from_decoder_only(
    cls,
    model: str | os.PathLike | PreTrainedModel,
    *,
    encoder_layers: Layers = None,
    reasoner_layers: Layers = None,
    decoder_layers: Layers = None,
    tokenizer=None,
    thought_start: str = "<think>",
    boundaries: Iterable[str] = ("\n",),
    triggers: Iterable[str] = ("=",),
    plan_slots: int = 0,
    max_piece_length: int = 0,
    decoder_window: int = 0,
    **load_kwargs,
):
    """Build a StepReasoner from a Qwen2, Qwen3, Llama or Mistral causal language model.

    Copied as they are: embeddings (padded vocabulary included) and head, tied or not, every layer's weights, biases
    and norms, the final norm, the rotary embedding's parameters, token ids, dtype, device and generation config. New
    are only the plan slots, drawn with the source's `initializer_range`. What is new as well is how the layers are
    connected: expect to train before the model says anything sensible.

    Which source layer is copied where: by default every layer is used once, in order, in the proportion 12 : 6 : 3.
    Of n layers the last max(1, round(n / 7)) go to the decoder, the round(2 n / 7) before them to the reasoner, the
    others to the encoder: 24 become 14 + 7 + 3, 28 become 16 + 8 + 4.

    A source layer with a sliding window keeps it in the encoder, where it then reaches to both sides; in the reasoner
    and the decoder every layer has full attention.

    Args:
        cls: `StepReasonerForCausalLM`.
        model: Folder, name on the Hub, or a loaded model; a loaded model is not changed and shares no weights.
        encoder_layers: Number of layers, the first ones; or the numbers of source layers, counted from 0.
        reasoner_layers: Number of layers, the ones in between; or the numbers of source layers.
        decoder_layers: Number of layers, the last ones; or the numbers of source layers. Given as counts, the three
            have to add up to the source's layers; the rest is divided among those left out in the proportion above,
            rounded from the decoder up. Given as lists, all three are needed, an empty one for a stack without
            layers; a layer may be used twice, or not at all.
        tokenizer: Tokenizer, or its folder or name, in which `thought_start`, `boundaries` and `triggers` are looked
            up (see `StepReasonerConfig.set_tokens`). Default: the one saved beside the weights, if `model` is a
            name and it has these tokens; else the ids stay empty, with a warning that says what to do.
        thought_start, boundaries, triggers: As in `StepReasonerConfig.set_tokens`.
        plan_slots, max_piece_length, decoder_window: As in [`StepReasonerConfig`].
        load_kwargs: For `AutoModelForCausalLM.from_pretrained`: dtype, revision, ... Not for a loaded model.

    Raises:
        ValueError: if the model cannot be loaded, is of another kind or quantised, or the layers or tokens do not fit.
    """
    if not isinstance(model, (str, os.PathLike, PreTrainedModel)):
        raise ValueError(
            f"from_decoder_only accepts a name, a folder or a transformers model, not a {type(model).__name__}. Of a "
            "PEFT model pass model.merge_and_unload()."
        )
    own = None if isinstance(model, PreTrainedModel) else model
    if own is None and load_kwargs:
        raise ValueError(f"{', '.join(load_kwargs)}: for loading a model by name, but this one is loaded already.")
    source_config: Any = (
        model.config if isinstance(model, PreTrainedModel) else _load(AutoConfig, model, **load_kwargs)
    )
    _check_source(source_config, load_kwargs)
    layers = choose_layers(source_config.num_hidden_layers, encoder_layers, reasoner_layers, decoder_layers)
    config = _config(source_config, layers, plan_slots, max_piece_length, decoder_window)
    _set_tokens(config, tokenizer, own, load_kwargs, thought_start, boundaries, triggers)

    source: Any = model if own is None else _load(AutoModelForCausalLM, own, **load_kwargs)
    attention = source.config._attn_implementation
    config._attn_implementation = attention if attention in _ATTENTION else None
    with no_init_weights():
        converted = cls._from_config(config, dtype=source.dtype)
    _copy_weights(source, converted.to(source.device), layers)
    if source.can_generate():
        converted.generation_config = copy.deepcopy(source.generation_config)
    return converted.eval()


def choose_layers(total: int, encoder: Layers, reasoner: Layers, decoder: Layers) -> dict[str, list[int]]:
    """Source layers of each stack, from counts or lists; see `from_decoder_only`.

    Raises:
        ValueError: naming the argument, if they do not fit a source of `total` layers.
    """
    wanted: dict[str, Any] = dict(zip(STACKS, (encoder, reasoner, decoder), strict=True))
    if any(isinstance(value, Sequence) for value in wanted.values()):
        return {stack: _listed(stack, value, total) for stack, value in wanted.items()}
    counts: dict[str, int] = {stack: value for stack, value in wanted.items() if value is not None}
    rest = total - sum(counts.values())
    missing = [stack for stack in reversed(STACKS) if stack not in counts]
    if rest < 0 or min(counts.values(), default=0) < 0 or (rest and not missing):
        given = " + ".join(f"{stack}_layers={count}" for stack, count in counts.items())
        raise ValueError(
            f"{given} does not divide the {total} layers of the source. Leave one out, which then gets the rest, or "
            "give lists of layer numbers, which need not name them all."
        )
    weight = sum(_PROPORTION[stack] for stack in missing)
    for stack in missing[:-1]:
        least = 1 if stack == "decoder" else 0
        counts[stack] = min(max(least, round(rest * _PROPORTION[stack] / weight)), rest)
    if missing:
        counts[missing[-1]] = total - sum(counts.values())
    if counts["decoder"] < 1:
        raise ValueError("decoder_layers has to leave at least one layer to the decoder: it predicts the tokens.")
    first, second = counts["encoder"], counts["encoder"] + counts["reasoner"]
    numbers = list(range(total))
    return dict(zip(STACKS, (numbers[:first], numbers[first:second], numbers[second:]), strict=True))


def _listed(stack: str, value: Layers, total: int) -> list[int]:
    if not isinstance(value, Sequence):
        raise ValueError(
            f"{stack}_layers={value} beside a list: give all three as lists of source layers (an empty list for "
            "none), or all as counts."
        )
    outside = [number for number in value if not 0 <= number < total]
    if outside:
        raise ValueError(f"{stack}_layers: {outside} are no layers of the source, which has 0 to {total - 1}.")
    if stack == "decoder" and not value:
        raise ValueError("decoder_layers has to name at least one layer: the decoder predicts the tokens.")
    return list(value)


def _load(auto, name: str | os.PathLike, **kwargs):
    path = os.fspath(name)
    if not os.path.isdir(path) and (path.count("/") > 1 or path.startswith((".", "/", "~"))):
        raise ValueError(f"{path}: there is no such folder, and it is not the name of a model on the Hub.")
    try:
        return auto.from_pretrained(name, **kwargs)
    except OSError as error:
        what = " ".join(str(error).split())
        raise ValueError(f"{path!r} is no folder with a model and cannot be loaded from the Hub: {what}") from error


def _check_source(config, load_kwargs: dict) -> None:
    """Refuse, before any weight loads, what would not compute the same in StepReasoner's block."""
    kind = config.model_type
    if kind not in _FAMILIES:
        raise ValueError(
            f"A model of type {kind!r} cannot be converted: its layers are built differently (experts, other norms, "
            f"other attention). Choose one of type {', '.join(sorted(_FAMILIES))}."
        )
    if getattr(config, "quantization_config", None) or load_kwargs.get("quantization_config"):
        raise ValueError(
            "Quantised weights cannot be copied into another architecture. Convert the unquantised checkpoint, save "
            "it, and quantise the result."
        )
    biases = [name for name in ("attention_bias", "mlp_bias") if getattr(config, name, False)]
    if biases and not _FAMILIES[kind]["attention_bias"]:
        raise ValueError(
            f"{kind} with {biases[0]}=True has biases that StepReasoner's block has no place for (it has them on "
            "query, key and value only, as Qwen2). Choose a checkpoint without."
        )
    rope = (config.rope_parameters or {}).get("rope_type", "default")
    if rope in ("dynamic", "longrope"):
        raise ValueError(
            f"rope_type {rope!r} changes the positions' frequencies with the length of the text, but prompt and chain "
            "are rotated apart here. Load the source with another rope_type ('default', 'yarn') in rope_parameters."
        )


def _config(
    source, layers: dict[str, list[int]], plan_slots: int, max_piece_length: int, decoder_window: int
) -> StepReasonerConfig:
    window = getattr(source, "sliding_window", None)
    kinds = getattr(source, "layer_types", None)
    if kinds is None:  # Mistral names none: with a window, all of its layers slide
        kinds = ["sliding_attention" if window else "full_attention"] * source.num_hidden_layers
    encoder = [kinds[number] for number in layers["encoder"]]
    others = len(layers["reasoner"]) + len(layers["decoder"])
    fields: dict[str, Any] = {name: copy.deepcopy(getattr(source, name, None)) for name in _SAME_FIELDS}
    fields |= _FAMILIES[source.model_type]
    fields |= {f"num_{stack}_layers": len(numbers) for stack, numbers in layers.items()}
    return StepReasonerConfig(
        **fields,
        layer_types=encoder + ["full_attention"] * others,
        sliding_window=window if "sliding_attention" in encoder else None,
        plan_slots=plan_slots,
        max_piece_length=max_piece_length,
        decoder_window=decoder_window,
    )


def _set_tokens(config, tokenizer, own, load_kwargs, thought_start, boundaries, triggers) -> None:
    """Fill the config's sets of ids from `tokenizer`, which has to fit, or from that of the name `own`, if it does."""
    hub = {name: load_kwargs[name] for name in _HUB_ARGUMENTS if name in load_kwargs}
    texts = {"thought_start": thought_start, "boundaries": boundaries, "triggers": triggers}
    if tokenizer is not None:
        if isinstance(tokenizer, (str, os.PathLike)):
            tokenizer = _load(AutoTokenizer, tokenizer, **hub)
        config.set_tokens(tokenizer, **texts)
        return
    why = "no tokenizer was given."
    if own is not None:
        versions = {name: load_kwargs[name] for name in ("revision", "subfolder") if name in load_kwargs}
        try:
            config.set_tokens(_load(AutoTokenizer, own, **hub, **versions), **texts)
            return
        except (ValueError, ImportError) as error:
            why = str(error)
    warnings.warn(
        f"This StepReasoner does not know its tokens yet: {why} Call model.config.set_tokens(tokenizer, "
        "thought_start=..., boundaries=..., triggers=...) before training: without them all of a text is prompt.",
        stacklevel=4,
    )


def _copy_weights(source: PreTrainedModel, converted, layers: dict[str, list[int]]) -> None:
    head: Any = source.get_output_embeddings()
    body: Any = source.base_model
    if head is None or head.weight.shape[0] != converted.config.vocab_size:
        raise ValueError(f"{type(source).__name__} has no language modelling head. Load it with AutoModelForCausalLM.")
    pairs = [(body.embed_tokens, converted.model.embed_tokens), (body.norm, converted.model.norm)]
    for stack, numbers in layers.items():
        pairs += zip((body.layers[n] for n in numbers), getattr(converted.model, stack), strict=True)
    if converted.config.tie_word_embeddings:
        converted.tie_weights()
    else:
        pairs.append((head, converted.lm_head))
    for old, new in pairs:
        states = old.state_dict()
        odd = sorted(set(states) ^ set(new.state_dict()))
        if odd or any(value.is_meta for value in states.values()):
            raise ValueError(
                f"The source's weights are not plain ones: {', '.join(odd[:4]) or 'some are not in memory'}. Merge "
                "adapters first, and load it without offloading."
            )
        new.load_state_dict(states)
    if converted.config.plan_slots:
        converted._init_weights(converted.model.plan_slots)
