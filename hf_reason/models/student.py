"""A smaller student out of its teacher, to start a distillation from."""

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# The modules of a Llama-shaped layer; anything else (experts, latent attention, three stacks) is refused.
_BLOCK = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}
_ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
_FEED_FORWARD = {"gate_proj", "up_proj", "down_proj"}
_WIDTHS = ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads", "head_dim")


def student_from_teacher(
    teacher: "PreTrainedModel | str",
    *,
    num_hidden_layers: int | None = None,
    layers: Sequence[int] | None = None,
    groups: Sequence[Sequence[int]] | None = None,
    channels: Sequence[Sequence[int]] | None = None,
    **config_fields: Any,
) -> "PreTrainedModel":
    """A model of the teacher's class with fewer layers, narrower ones, or both, made of the teacher's weights.

    Layers are copied whole. A narrower student gets evenly spaced rows and columns of every matrix (the uniform
    selection of Xu et al. 2024, arXiv 2311.18823): one choice for the residual width, one for the feed-forward width,
    whole heads by key/value group, and inside a head whole rotary pairs (i, i + d/2), so that where the head sizes
    divide the student's frequencies are those of its dimensions in the teacher. The head size stays unless `head_dim`
    is given. Embeddings keep their rows: distillation needs the teacher's vocabulary. Nothing is rescaled: sums over
    fewer columns have another variance than the teacher's, which training has to make up for.

    Args:
        teacher: A causal language model of the Llama, Mistral, Qwen2 or Qwen3 shape, or its name or folder
            (safetensors only).
        num_hidden_layers: Take this many layers, evenly, the first and the last among them (of one, the first).
        layers: Or these layers, in this order.
        groups: For each layer of the student, the key/value groups that stay, with all their query heads; the same
            number in each layer. In place of an even choice.
        channels: For each layer of the student, the feed-forward channels that stay; the same number in each layer.
        **config_fields: `hidden_size`, `intermediate_size`, `num_attention_heads`, `num_key_value_heads`, `head_dim`.

    Returns:
        The student, in the teacher's precision, on the CPU or the teacher's device; it shares no memory with it.

    Raises:
        ValueError: if the teacher is of another shape, quantised, adapted or not in memory, or a number does not fit.
    """
    from transformers.initialization import no_init_weights

    if isinstance(teacher, str):
        from transformers import AutoConfig, AutoModelForCausalLM

        _check_precision(AutoConfig.from_pretrained(teacher, trust_remote_code=False))  # before any weight loads
        teacher = AutoModelForCausalLM.from_pretrained(teacher, use_safetensors=True, trust_remote_code=False)
    _check_precision(teacher.config, getattr(teacher, "is_quantized", False))
    _check_shape(teacher)
    source = teacher.config
    chosen = _layers(source.num_hidden_layers, num_hidden_layers, layers)
    fields = {**config_fields, **_counts(source, len(chosen), groups, channels, config_fields)}
    config = _config(source, chosen, fields)
    rows = [
        _Selection(source, config, None if groups is None else groups[i], None if channels is None else channels[i])
        for i in range(len(chosen))
    ]
    # made in the teacher's dtype: a cast afterwards would round the rotary frequencies too, which stay float32
    with no_init_weights():
        student = type(teacher)._from_config(config, dtype=teacher.dtype).to(teacher.device)
    student.tie_weights()
    weights = teacher.state_dict()
    with torch.no_grad():
        for name, target in student.state_dict().items():
            parts, layer = name.split("."), 0
            if "layers" in parts:
                place = parts.index("layers") + 1
                layer = int(parts[place])
                parts[place] = str(chosen[layer])
            target.copy_(rows[layer].select(name, weights[".".join(parts)]))
    student.generation_config = copy.deepcopy(teacher.generation_config)
    return student


def _check_precision(config: Any, quantized: bool = False) -> None:
    if quantized or getattr(config, "quantization_config", None):
        raise ValueError("The teacher is quantised: load it in its own precision to take a student out of it.")


def _check_shape(teacher: "PreTrainedModel") -> None:
    blocks = getattr(teacher.base_model, "layers", None)
    if not blocks or teacher.get_output_embeddings() is None or not all(map(_is_llama_shaped, blocks)):
        raise ValueError(
            f"A student cannot be taken out of a {teacher.config.model_type!r} ({type(teacher).__name__}): this works "
            "for causal language models of the Llama, Mistral, Qwen2 and Qwen3 shape. Give the student by name or by "
            "model_config."
        )
    states = teacher.state_dict().items()
    if any("lora_" in name or ".base_layer." in name or weight.is_meta for name, weight in states):
        raise ValueError("The teacher's weights are not plain ones: merge adapters, and load it without offloading.")


def _is_llama_shaped(block: Any) -> bool:
    def parts(module: torch.nn.Module) -> set[str]:
        return {name for name, _ in module.named_children()}

    if parts(block) != _BLOCK:
        return False
    return (
        parts(block.self_attn) - {"q_norm", "k_norm"} == _ATTENTION and parts(block.mlp) - {"act_fn"} == _FEED_FORWARD
    )


def _layers(count: int, number: int | None, layers: Sequence[int] | None) -> list[int]:
    if number is not None and layers is not None:
        raise ValueError("num_hidden_layers and layers state the number of layers twice: give one of them.")
    if layers is not None:
        wrong = [layer for layer in layers if not 0 <= layer < count]
        if wrong or not layers:
            raise ValueError(f"layers={list(layers)}: the teacher has the layers 0 to {count - 1}.")
        return list(layers)
    number = count if number is None else number
    if not 1 <= number <= count:
        raise ValueError(f"num_hidden_layers={number}: the teacher has {count} layers.")
    return [round(place * (count - 1) / max(number - 1, 1)) for place in range(number)]


def _counts(
    source: Any,
    layers: int,
    groups: Sequence[Sequence[int]] | None,
    channels: Sequence[Sequence[int]] | None,
    fields: dict[str, Any],
) -> dict[str, int]:
    """The widths that chosen groups and channels make."""
    found = {}
    for option, chosen, width in (
        ("groups", groups, "num_key_value_heads"),
        ("channels", channels, "intermediate_size"),
    ):
        if chosen is None:
            continue
        limit, sizes = getattr(source, width), {len(row) for row in chosen}
        if len(chosen) != layers or len(sizes) != 1 or width in fields:
            raise ValueError(
                f"{option} needs one list for each of the {layers} layers, all of one length, and sets {width} by it."
            )
        if any(len(set(row)) != len(row) or not all(0 <= item < limit for item in row) for row in chosen):
            raise ValueError(f"{option}: the teacher has the {option} 0 to {limit - 1}; name each at most once.")
        found[width] = sizes.pop()
    if groups is not None:
        if "num_attention_heads" in fields or "head_dim" in fields:
            raise ValueError("groups keep all their query heads whole: leave num_attention_heads and head_dim out.")
        in_group = source.num_attention_heads // source.num_key_value_heads
        found["num_attention_heads"] = found["num_key_value_heads"] * in_group
    return found


def _config(source: Any, chosen: list[int], fields: dict[str, Any]) -> Any:
    unknown = [name for name in fields if name not in (*_WIDTHS, "vocab_size")]
    if unknown:
        raise ValueError(f"{', '.join(unknown)} cannot be set here, only {', '.join(_WIDTHS)}.")
    if fields.get("vocab_size", source.vocab_size) != source.vocab_size:
        raise ValueError(f"vocab_size must stay the teacher's {source.vocab_size}: distillation compares id by id.")
    config = copy.deepcopy(source)
    config.num_hidden_layers = len(chosen)
    for name, value in vars(source).items():  # layer_types, SmolLM3's no_rope_layers: an entry for each layer
        if "layer" in name and isinstance(value, list) and len(value) == source.num_hidden_layers:
            setattr(config, name, [value[layer] for layer in chosen])
    head = _head_size(source)
    for name in _WIDTHS:
        before = head if name == "head_dim" else getattr(source, name)
        now = fields.get(name, before)
        if not isinstance(now, int) or not 1 <= now <= before:
            raise ValueError(f"{name}={now}: the teacher has {before}; give a whole number from 1 to that.")
        # the teacher's head size stays unless another one is asked for, whatever the width
        if name != "head_dim" or hasattr(source, "head_dim") or now * config.num_attention_heads != config.hidden_size:
            setattr(config, name, now)
    heads, groups = config.num_attention_heads, config.num_key_value_heads
    if heads % groups:
        raise ValueError(f"num_attention_heads={heads} is no multiple of num_key_value_heads={groups}.")
    if heads // groups > source.num_attention_heads // source.num_key_value_heads:
        raise ValueError(
            f"{heads} heads in {groups} groups: a group of the teacher has only "
            f"{source.num_attention_heads // source.num_key_value_heads} heads."
        )
    if _head_size(config) % 2:
        raise ValueError(f"head_dim={_head_size(config)} must be even: rotary dimensions come in pairs.")
    try:
        config.validate()  # Llama wants heads that divide the width, and would only say so when it is saved
    except Exception as error:
        raise ValueError(f"A {source.model_type!r} cannot have these sizes: {error}") from error
    return config


def _head_size(config: Any) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _even(before: int, now: int) -> torch.Tensor:
    """`now` evenly spaced indices below `before`."""
    return torch.arange(now) * before // now


def _index(numbers: Sequence[int]) -> torch.Tensor:
    return torch.tensor([int(number) for number in numbers], dtype=torch.long)


class _Selection:
    """Which rows and columns of the teacher's weights a layer of the student gets."""

    def __init__(
        self, source: Any, config: Any, groups: Sequence[int] | None = None, channels: Sequence[int] | None = None
    ) -> None:
        self.width = _even(source.hidden_size, config.hidden_size)
        self.inner = (
            _even(source.intermediate_size, config.intermediate_size) if channels is None else _index(channels)
        )
        size, half = _head_size(source), _even(_head_size(source) // 2, _head_size(config) // 2)
        self.head = torch.cat([half, half + size // 2])
        kept_groups = (
            _even(source.num_key_value_heads, config.num_key_value_heads) if groups is None else _index(groups)
        )
        in_group, kept = (c.num_attention_heads // c.num_key_value_heads for c in (source, config))
        queries = (kept_groups.unsqueeze(1) * in_group + _even(in_group, kept)).flatten()
        self.keys = (kept_groups.unsqueeze(1) * size + self.head).flatten()
        self.queries = (queries.unsqueeze(1) * size + self.head).flatten()

    def select(self, name: str, weight: torch.Tensor) -> torch.Tensor:
        """The student's part of the teacher's `weight`, a parameter of the given name."""
        module = name.split(".")[-2]
        if module in ("embed_tokens", "lm_head"):
            return weight[:, self.width] if weight.dim() == 2 else weight
        if module in ("q_norm", "k_norm"):
            return weight[self.head]
        rows, columns = {
            "q_proj": (self.queries, self.width),
            "k_proj": (self.keys, self.width),
            "v_proj": (self.keys, self.width),
            "o_proj": (self.width, self.queries),
            "gate_proj": (self.inner, self.width),
            "up_proj": (self.inner, self.width),
            "down_proj": (self.width, self.inner),
        }.get(module, (self.width, self.width))
        return weight[rows][:, columns] if weight.dim() == 2 else weight[rows]
