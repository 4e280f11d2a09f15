"""The weights of a base model under an adapter of any PEFT method: their names, their hash, and whether they move."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

_NARROW = (torch.bfloat16, torch.float16)
_ROUTERS = "loar"  # the modules of `hf_reason.models.loar` in a layer


def base_weights(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and value of each weight of the base model, under the names that it has without adapters.

    Read from the state dict: bitsandbytes rearranges 4-bit weights for some CPUs in a forward pass, and puts them back
    there; it also holds their scales.
    """
    places = dict(_base_modules(model, "", ""))
    modules = {name for name, _ in model.named_modules(remove_duplicate=False)}
    for key, value in model.state_dict(keep_vars=True).items():
        place, inside, head = "", key, key
        while head:  # the longest name of a module; a quantised weight has entries below its own name
            head, _, _ = head.rpartition(".")
            if head in modules:
                place, inside = head, key[len(head) + 1 :] if head else key
                break
        if place in places:
            name = places[place]
            yield f"{name}.{inside}" if name else inside, getattr(value, "ds_tensor", value)


def base_fingerprint(model: Any) -> dict[str, Any]:
    """What identifies a base model: `hash` of all weights, their `kind`, `model_type` and `name_or_path`.

    It is the same with and without adapters, whatever their method. Weights of 32 bits that hold no more than 16 (a
    checkpoint in bfloat16, loaded in float32) also have the hashes that they have in 16 bits, in `narrow`. Under
    ZeRO-3 the hashes are those of this process's part. Under FSDP2 a weight at a time is gathered: all processes call
    this together, and get what they would from the whole model.
    """
    import xxhash

    digest, kinds = xxhash.xxh3_128(), set()
    narrow = {dtype: xxhash.xxh3_128() for dtype in _NARROW}
    value: Any
    for name, value in sorted(base_weights(model), key=lambda item: item[0]):
        local: torch.Tensor = value.full_tensor() if hasattr(value, "full_tensor") else value
        if name.endswith("weight"):
            kinds.add("4 bit" if hasattr(value, "quant_state") else str(local.dtype).removeprefix("torch."))
        local = local.detach()
        _add(digest, name, local)
        for dtype in list(narrow):
            same = local.to(dtype) if local.dtype == torch.float32 else local
            if torch.equal(same.to(local.dtype), local):
                _add(narrow[dtype], name, same)
            else:
                del narrow[dtype]
    config = model.config.get_text_config()
    found = {
        "hash": digest.hexdigest(),
        "kind": ", ".join(sorted(kinds)),
        "model_type": config.model_type,
        "name_or_path": str(config._name_or_path),
    }
    if kinds == {"float32"} and narrow:
        found["narrow"] = {str(dtype).removeprefix("torch."): held.hexdigest() for dtype, held in narrow.items()}
    return found


def _add(digest: Any, name: str, value: torch.Tensor) -> None:
    digest.update(f"{name} {tuple(value.shape)}".encode())
    digest.update(value.cpu().contiguous().flatten().view(torch.uint8).numpy())


def same_base(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two fingerprints may be of one base. Hashes of different kinds of weights cannot be compared."""
    if one["model_type"] != other["model_type"]:
        return False
    hashes = [{found["kind"]: found["hash"], **found.get("narrow", {})} for found in (one, other)]
    kinds = [kind for kind in (one["kind"], other["kind"]) if kind in hashes[0] and kind in hashes[1]]
    return all(hashes[0][kind] == hashes[1][kind] for kind in kinds)


def trained_base_weights(model: Any) -> list[str]:
    """Names of the base's own weights that training would change, such as the biases of `LoraConfig(bias="all")`."""
    return [name for name, value in base_weights(model) if value.requires_grad]


def has_adapted_head(model: Any) -> bool:
    """Whether an adapter of any method is on the LM head."""
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    head = causal.get_output_embeddings()
    return head is not None and _wrapped(head) is not None


def _base_modules(module: nn.Module, place: str, name: str) -> Iterator[tuple[str, str]]:
    """Where each module of the base is, and what it is called there without adapters."""
    wrapped = _wrapped(module)
    if wrapped is not None:
        yield from _base_modules(getattr(module, wrapped), _join(place, wrapped), name)
        return
    yield place, name
    for child_name, child in module._modules.items():
        if child is not None and child_name != _ROUTERS:
            yield from _base_modules(child, _join(place, child_name), _join(name, child_name))


def _wrapped(module: nn.Module) -> str | None:
    """The attribute in which a module of PEFT's keeps what it adapts; `None` for a module of the base.

    Everything else in such a module is the adapter's. They are told by their classes, so that a new method needs no
    entry here: a tuner around the model, a layer around a layer, and copies that are trained beside the original.
    """
    import peft
    from peft.tuners.adaption_prompt import AdaptionPromptModel
    from peft.tuners.adaption_prompt.layer import _BaseAdaptedAttention
    from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    if isinstance(module, peft.PeftModel | peft.PeftMixedModel):
        return "base_model"
    if isinstance(module, AuxiliaryTrainingWrapper):
        return "token_adapter" if "token_adapter" in module._modules else "original_module"
    if isinstance(module, BaseTunerLayer):
        return "base_layer"
    if isinstance(module, peft.XLoraModel):
        return "lora_model"
    if isinstance(module, BaseTuner | AdaptionPromptModel | _BaseAdaptedAttention):
        return "model"
    return None


def _join(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name
