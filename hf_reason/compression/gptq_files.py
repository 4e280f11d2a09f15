"""GPTQ checkpoints read from their files alone: without gptqmodel, its kernels or a GPU."""

import copy
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers.pytorch_utils import Conv1D

from hf_reason.models.quantized_loading import quantization_settings

from .errors import QuantizationError
from .packed import dequantized_weight, unpack, zero_points

_PARTS = ("qweight", "qzeros", "scales", "g_idx")
BITS = (2, 3, 4, 8)


@dataclass
class PackedWeight:
    """A packed module in a file.

    Attributes:
        bits: Bits of a weight.
        qweight: Packed codes, as stored.
        zeros: Zero points, uint8, `(groups, outputs)`.
        scales: `(groups, outputs)`, as stored.
        g_idx: Group of each input, `(inputs,)`.
    """

    bits: int
    qweight: torch.Tensor
    zeros: torch.Tensor
    scales: torch.Tensor
    g_idx: torch.Tensor

    def codes(self) -> torch.Tensor:
        """The integers, uint8, `(inputs, outputs)`."""
        return unpack(self.qweight, self.bits, len(self.g_idx))

    def dense(self) -> torch.Tensor:
        """The weight, float32, `(outputs, inputs)`."""
        return dequantized_weight(self.qweight, self.zeros, self.scales, self.g_idx, self.bits)


@dataclass
class GPTQCheckpoint:
    """A GPTQ checkpoint on disk.

    Attributes:
        folder: Where it is.
        settings: Its quantization config.
        plain: Tensors that are not packed.
        packed: Full name of a module -> its packed weight.
    """

    folder: Path
    settings: dict[str, Any]
    plain: dict[str, torch.Tensor]
    packed: dict[str, PackedWeight]

    @classmethod
    def read(cls, name: str | os.PathLike[str]) -> "GPTQCheckpoint":
        """The checkpoint of a folder or a Hub name, all tensors in memory.

        Raises:
            QuantizationError: if it is no GPTQ checkpoint, or its layout is another one.
        """
        folder = _folder(name)
        settings = quantization_settings(folder)
        if settings is None or settings.get("quant_method") != "gptq":
            raise QuantizationError(f"{name} is no GPTQ checkpoint: its config names no quant_method gptq.")
        layout = str(settings.get("checkpoint_format") or settings.get("format") or "gptq")
        bits = int(settings["bits"])
        if layout not in ("gptq", "gptq_v2") or bits not in BITS or settings.get("dynamic"):
            other = " with bits that differ" if settings.get("dynamic") else ""
            raise QuantizationError(
                f"{name} has {bits} bits in the layout {layout!r}{other}; those that are read have "
                f"{', '.join(map(str, BITS))} bits in the layouts gptq and gptq_v2."
            )
        tensors: dict[str, Any] = dict(_tensors(folder))
        modules = [key.removesuffix(".qweight") for key in tensors if key.endswith(".qweight")]
        if not modules:
            raise QuantizationError(f"{name} says that it is quantised, but no safetensors file has packed weights.")
        packed = {module: _packed(tensors, module, bits, settings, layout) for module in modules}
        return cls(folder, settings, tensors, packed)


def load_dequantized(
    name: str | os.PathLike[str], dtype: torch.dtype = torch.bfloat16, *, trust_remote_code: bool = False
) -> Any:
    """The dense model that a GPTQ checkpoint stands for: exactly its weights, rounded once to `dtype`.

    It needs no extra: neither gptqmodel nor a kernel is used.

    Args:
        name: Folder or Hub name.
        dtype: Of the weights.
        trust_remote_code: Run code that comes with the model.

    Raises:
        QuantizationError: if it is no GPTQ checkpoint, or its layout is another one.
    """
    return dense_model(GPTQCheckpoint.read(name), dtype, trust_remote_code=trust_remote_code)


def dense_model(checkpoint: GPTQCheckpoint, dtype: torch.dtype, *, trust_remote_code: bool = False) -> Any:
    """The model of `load_dequantized`, of a checkpoint that has been read."""
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    config = AutoConfig.from_pretrained(checkpoint.folder, trust_remote_code=trust_remote_code)
    vars(config).pop("quantization_config", None)
    with torch.device("meta"):
        plain = AutoModelForCausalLM.from_config(copy.deepcopy(config), trust_remote_code=trust_remote_code)
    turned = {name for name, module in plain.named_modules() if isinstance(module, Conv1D)}
    tensors = dict(checkpoint.plain)
    for name, weight in checkpoint.packed.items():
        dense = weight.dense().to(dtype)
        tensors[f"{name}.weight"] = dense.T.contiguous() if name in turned else dense
    model = type(plain).from_pretrained(None, config=config, state_dict=tensors, dtype=dtype)
    if (checkpoint.folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(checkpoint.folder)
    model.config._name_or_path = model.name_or_path = str(checkpoint.folder)
    return model.eval()


def _packed(tensors: dict[str, Any], module: str, bits: int, settings: Mapping[str, Any], layout: str) -> PackedWeight:
    missing = [part for part in _PARTS[:3] if f"{module}.{part}" not in tensors]
    if missing:
        raise QuantizationError(f"{module} has a qweight, but no {' and no '.join(missing)}: the file is not whole.")
    words, stored, scales = (tensors.pop(f"{module}.{part}") for part in _PARTS[:3])
    g_idx = tensors.pop(f"{module}.g_idx", None)
    if g_idx is None or not len(g_idx):  # layouts without it have their groups in order
        size = int(settings["group_size"])
        inputs = words.shape[0] * 32 // bits
        g_idx = torch.arange(inputs, dtype=torch.int32) // (size if size > 0 else inputs)
    zeros = zero_points(stored, bits, scales.shape[1])
    if layout == "gptq":  # version 1 stores one less
        zeros = (zeros + 1) & (2**bits - 1)
    return PackedWeight(bits, words, zeros, scales, g_idx)


def _tensors(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    from safetensors.torch import load_file

    for path in sorted(folder.glob("*.safetensors")):
        if path.name not in ("adapter_model.safetensors", "loar.safetensors"):
            yield from load_file(path).items()


def _folder(name: str | os.PathLike[str]) -> Path:
    if os.path.isdir(name):
        return Path(name)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(str(name), allow_patterns=["*.json", "*.safetensors", "*.py"]))
