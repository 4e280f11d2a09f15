"""The shape of a model as fields of GGUF."""

from typing import Any

from .errors import QuantizationError

# transformers' name -> llama.cpp's. Mistral is a Llama whose window is a shorter context.
ARCHITECTURES = {"qwen2": "qwen2", "qwen3": "qwen3", "llama": "llama", "mistral": "llama"}
_YARN_DEFAULTS = {"beta_fast": 32, "beta_slow": 1, "truncate": True, "mscale": None, "mscale_all_dim": None}


def write_fields(writer: Any, model: Any) -> list[str]:
    """Write what llama.cpp needs to know of a model's config.

    Args:
        writer: A `gguf.GGUFWriter`.
        model: Of one of `ARCHITECTURES`.

    Returns:
        What a reader should know, in sentences.

    Raises:
        QuantizationError: for what llama.cpp computes differently.
    """
    config = model.config
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if config.hidden_act not in ("silu", "swish"):
        raise QuantizationError(f"hidden_act={config.hidden_act}: llama.cpp's {config.model_type} has silu.")
    context, notes = _context(config)
    writer.add_context_length(context)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(model.get_input_embeddings().weight.shape[0])
    writer.add_rope_dimension_count(width)
    _write_rope(writer, config)
    return notes


def _context(config: Any) -> tuple[int, list[str]]:
    longest, window = config.max_position_embeddings, getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ["sliding_attention"])
    if window is None or "sliding_attention" not in kinds or window >= longest:
        return longest, []
    note = f"Attention slides over {window} tokens, which GGUF cannot say: the context ends there, not at {longest}."
    return int(window), [note]


def _write_rope(writer: Any, config: Any) -> None:
    import gguf

    rope = config.rope_parameters
    kind = rope.get("rope_type", "default")
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise QuantizationError("partial_rotary_factor: llama.cpp rotates whole heads.")
    writer.add_rope_freq_base(float(rope["rope_theta"]))
    if kind in ("default", "llama3"):  # Llama 3's is a tensor
        return
    if kind == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
    elif kind == "yarn":
        changed = [name for name, value in _YARN_DEFAULTS.items() if rope.get(name, value) not in (value, None)]
        if changed or rope.get("attention_factor") is not None:
            raise QuantizationError(f"yarn with {', '.join(changed or ['attention_factor'])}: not in GGUF.")
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_orig_ctx_len(int(rope["original_max_position_embeddings"]))
    else:
        raise QuantizationError(f"rope scaling {kind}: GGUF export supports linear, llama3 and yarn.")
    writer.add_rope_scaling_factor(float(rope["factor"]))
