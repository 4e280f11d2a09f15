"""The packed modules of a GPTQ model: the numbers in them, and dense modules in their place.

The layout is auto-gptq's. `qweight` holds the codes, along the inputs, as one stream of bits a column in words of 32
bits; `qzeros` holds the zero points in the same way along the outputs; `W[output, input] = scales[g, output] *
(code[input, output] - zero[g, output])` with `g = g_idx[input]`.
"""

import sys
from typing import Any

import torch
from torch import nn

from .errors import QuantizationError

_WORD = 32


def packed_modules(model: Any) -> dict[str, Any]:
    """Full name -> module of gptqmodel, in the model's order; empty if there is none."""
    if "gptqmodel" not in sys.modules:  # then no module can be of its kind, and its import takes 15 seconds
        return {}
    from gptqmodel.nn_modules.qlinear import BaseQuantLinear

    return {name: module for name, module in model.named_modules() if isinstance(module, BaseQuantLinear)}


def unpack(words: torch.Tensor, bits: int, count: int) -> torch.Tensor:
    """The first `count` numbers of `bits` bits in each column of 32-bit words.

    Args:
        words: int32, `(words, columns)`.
        bits: 1 to 8; a number may lie across two words, as those of 3 bits do.
        count: Numbers in a column.

    Returns:
        uint8, `(count, columns)`.
    """
    place = torch.arange(count, device=words.device) * bits
    row, shift = place // _WORD, (place % _WORD)[:, None]
    wide = words.long() & 0xFFFFFFFF
    found = wide[row] >> shift
    split = shift[:, 0] + bits > _WORD
    if split.any():
        found[split] |= wide[row[split] + 1] << (_WORD - shift[split])
    return (found & (2**bits - 1)).to(torch.uint8)


def dequantized_weight(
    qweight: torch.Tensor, zeros: torch.Tensor, scales: torch.Tensor, g_idx: torch.Tensor, bits: int
) -> torch.Tensor:
    """The weights that packed ones stand for.

    Args:
        qweight: int32, `(ceil(inputs * bits / 32), outputs)`.
        zeros: Zero points, unpacked, `(groups, outputs)`.
        scales: `(groups, outputs)`.
        g_idx: Group of each input, `(inputs,)`.
        bits: Bits of a weight.

    Returns:
        float32, `(outputs, inputs)`.
    """
    group = g_idx.long()
    codes = unpack(qweight, bits, len(group)).float()
    return (scales.float()[group] * (codes - zeros.float()[group])).T.contiguous()


def zero_points(qzeros: torch.Tensor, bits: int, outputs: int) -> torch.Tensor:
    """The numbers in `qzeros`, uint8, `(groups, outputs)`: those of version 1 are one less than the zero points."""
    return unpack(qzeros.T, bits, outputs).T.contiguous()


@torch.no_grad()
def dequantize(model: Any, dtype: torch.dtype | None = None) -> Any:
    """Put linear modules with the same weights in place of the packed ones of a GPTQ model, in place.

    The model is an ordinary one afterwards: it trains, saves, and converts to other formats. A model that has just
    been loaded gives the weights exactly, rounded to `dtype`; kernels that rearrange their weights (on a GPU, or of
    4 bits on a CPU once they ran) give what they compute in half precision.

    Args:
        model: Made by `quantize_gptq`, or loaded; one without packed modules stays as it is.
        dtype: Of the weights; default: the model's own.

    Returns:
        The same model.

    Raises:
        QuantizationError: if an adapter lies on the packed modules.
    """
    packed = packed_modules(model)
    if any(".base_layer" in name for name in packed):
        raise QuantizationError("The quantised model carries an adapter: dequantise it before the adapter is loaded.")
    if not packed:
        return model
    dtype = dtype or model.dtype
    for name, module in packed.items():
        weight = _weight_of(module)
        outputs, inputs = weight.shape
        with torch.device("meta"):
            dense = nn.Linear(inputs, outputs, bias=module.bias is not None)
        dense.weight = nn.Parameter(weight.to(dtype))
        if module.bias is not None:
            dense.bias = nn.Parameter(module.bias.detach().to(dtype))
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, dense.train(module.training))
    _forget_quantization(model)
    for parameter in model.parameters():  # not the buffers: rotary frequencies stay as they are
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)
    model.config.dtype = dtype
    return model


def _forget_quantization(model: Any) -> None:
    """Take away what says that a model is quantised, and that it lies where it was loaded."""
    for key in ("quantization_config", "_pre_quantization_dtype"):
        vars(model.config).pop(key, None)
    for key in ("is_quantized", "quantization_method", "hf_quantizer", "quantize_config", "hf_device_map"):
        vars(model).pop(key, None)


def _weight_of(module: Any) -> torch.Tensor:
    """The dense weight of a packed module, float32, `(outputs, inputs)`."""
    if not is_readable(module):
        bias, module.bias = module.bias, None
        try:
            eye = torch.eye(module.in_features, dtype=torch.bfloat16, device=module.list_buffers()[0].device)
            return module.eval()(eye).float().T.contiguous()
        finally:
            module.bias = bias
    zeros = zero_points(module.qzeros, module.bits, module.out_features)
    return dequantized_weight(module.qweight, zeros, module.scales, module.g_idx, module.bits)


def is_readable(module: Any) -> bool:
    """Whether a packed module still holds its numbers in auto-gptq's order, with true zero points."""
    from gptqmodel.nn_modules.qlinear.torch import TorchLinear

    if getattr(module, "planar", False):  # another order of the bits
        return False
    return isinstance(module, TorchLinear) or getattr(module, "linear_mode", "inference") in (None, "train")
