"""GPTQ: weights of 2, 3, 4 or 8 bits, each rounded so that what was rounded before it is made up for.

E. Frantar et al. 2022, arXiv 2210.17323. The solver and the packing are gptqmodel's; the checkpoint has auto-gptq's
layout (format `gptq`, version 1), which transformers, auto-gptq, vLLM and SGLang read.
"""

import copy
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from hf_reason._files import write_json_atomically
from hf_reason.models.quantized_loading import named_kernel, quiet_gptqmodel

from .errors import QuantizationError
from .gptq_checks import check_words, check_zero_points
from .layer_walk import LayerWalk, VisitedLayer
from .packed import dequantize as dequantize  # the inverse
from .projections import projections

BITS = (2, 3, 4, 8)
_SOLVER_KEYS = ("bits", "group_size", "desc_act", "sym", "true_sequential")
GROUP_SIZES = (-1, 16, 32, 64, 128, 256, 512, 1024)
_TOKENS = 2048
Progress = Callable[[Iterable[Any]], Iterable[Any]]


@torch.no_grad()
def quantize_gptq(
    model: Any,
    examples: Sequence[Mapping[str, Any]],
    *,
    bits: int = 4,
    group_size: int = 128,
    desc_act: bool = False,
    sym: bool = True,
    true_sequential: bool = True,
    skip: Sequence[str] = (),
    progress: Progress = iter,
) -> Any:
    """Quantise the linear modules of a model's layers, in place; embeddings, norms, biases and the head stay whole.

    What stays whole is bfloat16 afterwards where it was float32: the kernels work in half precision.

    Args:
        model: A causal language model with plain weights: decoder-only or StepReasoner.
        examples: Encoded texts (`input_ids`) to calibrate on.
        bits: 2, 3, 4 or 8.
        group_size: Inputs that have a scale together; -1: all of a row.
        desc_act: Quantise the inputs with the strongest activations first; slower at inference.
        sym: Symmetric ranges.
        true_sequential: Inside a layer too, a module sees the inputs that the quantised ones before it give.
        skip: Modules that stay whole: names or beginnings of them (`model.layers.0`), or last parts (`o_proj`).
        progress: Wraps the layers.

    Returns:
        The model, with packed modules; `save_gptq` writes it.

    Raises:
        QuantizationError: if the model cannot be quantised or a setting does not fit. Nothing has changed then.
        MissingExtraError: naming the extra, if gptqmodel is missing.
    """
    if bits not in BITS:
        raise QuantizationError(f"bits must be one of {', '.join(map(str, BITS))}, got {bits}.")
    if group_size not in GROUP_SIZES:
        raise QuantizationError(f"group_size must be one of {', '.join(map(str, GROUP_SIZES))}, got {group_size}.")
    if not examples:
        raise QuantizationError("GPTQ needs texts to calibrate on.")
    found = projections(model, "all")
    chosen: dict[str, Any] = {name: module for name, module in found.items() if not _is_skipped(name, skip)}
    unused = [item for item in skip if not any(_is_skipped(name, [item]) for name in found)]
    if unused or not chosen:
        raise QuantizationError(
            f"skip={', '.join(unused or skip)}: "
            f"{'there is no such module' if unused else 'nothing is left to quantise'}."
        )
    if any(isinstance(module, Conv1D) for module in chosen.values()):
        raise QuantizationError(
            f"{type(model).__name__} has its weights in Conv1D modules, which transformers cannot load packed. Use "
            "bitsandbytes (--method nf4 or int8)."
        )
    check_words(chosen, bits)
    layers = list(dict.fromkeys(_layer_of(name) for name in chosen))
    with quiet_gptqmodel():
        config = _config(bits, group_size, desc_act, sym, true_sequential)
        results: dict[str, tuple[Any, ...]] = {}
        for layer in progress(LayerWalk(model, layers, examples)):
            inside = {name: module for name, module in chosen.items() if _layer_of(name) == layer.name}
            for names in _groups(layer, inside) if true_sequential else [list(inside)]:
                results |= _solved(layer, {name: inside[name] for name in names}, config)
        for name, result in results.items():
            _put(model, name, _packed(chosen[name], result, config))
    for parameter in model.parameters():  # not the buffers: rotary frequencies stay as they are
        if parameter.dtype == torch.float32:
            parameter.data = parameter.data.to(torch.bfloat16)
    shown = _public_config(config, list(chosen), len(chosen) < len(found))
    shown |= named_kernel(bits, group_size, [int(module.weight.shape[1]) for module in chosen.values()])
    model.config.quantization_config = shown
    return model


def save_gptq(model: Any, folder: str | os.PathLike[str]) -> None:
    """Write a quantised model: weights, `config.json`, and auto-gptq's `quantize_config.json`.

    Raises:
        QuantizationError: (before anything is written) for a zero point of 0, which an asymmetric range can have: the
            layout stores zero points less one, and its readers add the one again without a limit.
    """
    quantised = model.config.quantization_config
    check_zero_points(model, int(quantised["bits"]))
    with quiet_gptqmodel():
        model.save_pretrained(folder, state_dict=_version_1(model))
    settings = {key: value for key, value in quantised.items() if key != "backend"}  # gptqmodel's, not the layout's
    write_json_atomically(Path(folder, "quantize_config.json"), settings)


def _version_1(model: Any) -> dict[str, torch.Tensor]:
    """The weights as they are saved: zero points less one, as auto-gptq writes them."""
    from gptqmodel.nn_modules.qlinear import BaseQuantLinear
    from gptqmodel.utils.model import convert_gptq_v2_to_v1_format_module

    tensors, config = dict(model.state_dict()), model.config.quantization_config
    for name, module in model.named_modules():
        if isinstance(module, BaseQuantLinear):
            like = copy.copy(module)
            like._buffers = {**module._buffers, "qzeros": module.qzeros.clone()}
            convert_gptq_v2_to_v1_format_module(like, _config(*(config[key] for key in _SOLVER_KEYS)))
            tensors[f"{name}.qzeros"] = like.qzeros
    return tensors


def _is_skipped(name: str, skip: Sequence[str]) -> bool:
    return any(name == item or name.startswith(f"{item}.") or name.endswith(f".{item}") for item in skip)


def _layer_of(name: str) -> str:
    """`model.layers.3` of `model.layers.3.mlp.up_proj`: up to the first number."""
    parts = name.split(".")
    place = next(index for index, part in enumerate(parts) if part.isdigit())
    return ".".join(parts[: place + 1])


def _config(bits: int, group_size: int, desc_act: bool, sym: bool, true_sequential: bool) -> Any:
    from gptqmodel.quantization import QuantizeConfig

    return QuantizeConfig(
        bits=bits,
        group_size=group_size,
        desc_act=desc_act,
        sym=sym,
        true_sequential=true_sequential,
        act_group_aware=group_size > 0 and not desc_act,
        offload_to_disk=False,
    )


def _groups(layer: VisitedLayer, modules: Mapping[str, nn.Module]) -> list[list[str]]:
    """The modules of a layer in the order in which they work; those that read the same tensor are together."""
    inputs: dict[str, int] = {}
    kept: list[torch.Tensor] = []  # a tensor that is freed may give its id to another

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            kept.append(args[0])
            inputs.setdefault(name, id(args[0]))

        return hook

    handles = [module.register_forward_pre_hook(note(name)) for name, module in modules.items()]
    try:
        layer.run(1)
    finally:
        for handle in handles:
            handle.remove()
    found: dict[int, list[str]] = {}
    for name, place in inputs.items():
        found.setdefault(place, []).append(name)
    idle = [name for name in modules if name not in inputs]
    return [*found.values(), *([idle] if idle else [])]


class _Inputs:
    """Inputs of a module, given to its solver many tokens at a time.

    A solver makes a matrix of inputs x inputs of what it is given, which costs more than the product for short texts.
    """

    def __init__(self, solver: Any) -> None:
        self.solver = solver
        self.rows: list[torch.Tensor] = []

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        self.rows.append(args[0].detach().reshape(-1, args[0].shape[-1]))
        if sum(map(len, self.rows)) >= _TOKENS:
            self.add()

    def add(self) -> None:
        if self.rows:
            rows, self.rows = torch.cat(self.rows), []
            self.solver.add_batch(rows, rows)


def _solved(layer: VisitedLayer, modules: Mapping[str, nn.Module], config: Any) -> dict[str, tuple[Any, ...]]:
    from gptqmodel.quantization.gptq import GPTQ

    solvers = {name: GPTQ(module, copy.deepcopy(config)) for name, module in modules.items()}
    for solver in solvers.values():
        solver.quantizer.configure(perchannel=True)

    inputs = {name: _Inputs(solver) for name, solver in solvers.items()}
    handles = [module.register_forward_pre_hook(inputs[name]) for name, module in modules.items()]
    try:
        layer.run(until=list(modules.values()))
    finally:
        for handle in handles:
            handle.remove()
    for gathered in inputs.values():
        gathered.add()
    results = {}
    for name, solver in solvers.items():
        weight, *others = solver.quantize()[:4]
        solver.free()
        # the layers that follow see what the rounded weights give; they are packed at the end
        linear: Any = modules[name]
        linear.weight.data = weight.to(linear.weight, copy=True)
        results[name] = tuple(tensor.cpu().clone() for tensor in (weight.float(), *others))
    return results


def _packed(module: Any, result: tuple[Any, ...], config: Any) -> nn.Module:
    """The packed module of a solved one, in the layout of version 1."""
    from gptqmodel.nn_modules.qlinear.torch import TorchLinear

    weight, scale, zero, g_idx = result
    whole = nn.Linear(weight.shape[1], weight.shape[0], bias=module.bias is not None)
    whole.weight.data = weight
    if module.bias is not None:
        whole.bias.data = module.bias.detach().float().cpu()
    packed = TorchLinear(
        bits=config.bits,
        group_size=config.group_size,
        sym=config.sym,
        desc_act=config.desc_act,
        in_features=whole.in_features,
        out_features=whole.out_features,
        bias=module.bias is not None,
        pack_dtype=torch.int32,
        register_buffers=False,
    )
    packed.pack_original(whole, scale.float(), zero.float(), g_idx)
    packed.post_init()
    return packed.to(module.weight.device)


def _put(model: Any, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)


def _public_config(config: Any, names: Sequence[str], partial: bool) -> dict[str, Any]:
    """What `config.json` and `quantize_config.json` say: the layout, and no text, path or setting of this machine."""
    shown = {
        "quant_method": "gptq",
        "bits": config.bits,
        "group_size": config.group_size,
        "desc_act": config.desc_act,
        "sym": config.sym,
        "true_sequential": config.true_sequential,
        "lm_head": False,
        "damp_percent": config.damp_percent,
        "checkpoint_format": "gptq",
        "format": "gptq",
        "meta": {"quantizer": ["hf_reason", "gptqmodel"]},
    }
    # transformers (by optimum) replaces all linear modules below this name, or those that are listed
    stacks = {name.rpartition(".")[0] for name in map(_layer_of, names)}
    shown["block_name_to_quantize"] = (
        stacks.pop() if len(stacks) == 1 else os.path.commonprefix(sorted(stacks)).rpartition(".")[0]
    )
    if config.desc_act:
        shown["act_group_aware"] = False  # its default warns
    if partial:
        shown["modules_in_block_to_quantize"] = [list(names)]
    return shown
