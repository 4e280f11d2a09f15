"""Win back what GPTQ lost without leaving its layout: the scales are trained, the integers stay.

`W = s[g] * (q - z[g])`: codes `q` and zero points `z` are constants, the scales `s` parameters, with the norms and the
biases of the model; embeddings, head and modules that stayed whole are frozen. This is the second phase of
EfficientQAT (M. Chen et al. 2024, arXiv 2407.11062), taught by the model before the quantisation.
"""

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .errors import QuantizationError
from .gptq_files import GPTQCheckpoint, PackedWeight, dense_model

_HALF = torch.finfo(torch.float16)


class _Dequantize(torch.autograd.Function):
    """The weight of codes, zero points and scales; backward for the scales keeps the codes alone."""

    @staticmethod
    def forward(ctx: Any, scales: Any, codes: Any, zeros: Any, group: Any, dtype: Any) -> torch.Tensor:
        ctx.save_for_backward(codes, zeros, group)
        ctx.groups = scales.shape[0]
        return (scales[group] * (codes.float() - zeros[group].float())).T.to(dtype)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:  # type: ignore[override]
        codes, zeros, group = ctx.saved_tensors
        rows = grad.T.float() * (codes.float() - zeros[group].float())
        return rows.new_zeros(ctx.groups, rows.shape[1]).index_add_(0, group, rows), None, None, None, None


class ScaledLinear(nn.Module):
    """A linear module of integer weights with trainable scales.

    Args:
        weight: The packed weight.
        bias: `(outputs,)`.
    """

    def __init__(self, weight: PackedWeight, bias: torch.Tensor | None = None) -> None:
        super().__init__()
        self.scales = nn.Parameter(weight.scales.float())
        self.bias = None if bias is None else nn.Parameter(bias.float())
        # a checkpoint of the training keeps what is trained; the integers come from the quantised model
        self.register_buffer("codes", weight.codes(), persistent=False)
        self.register_buffer("zeros", weight.zeros, persistent=False)
        self.register_buffer("group", weight.g_idx.long(), persistent=False)
        self.out_features, self.in_features = weight.scales.shape[1], len(weight.g_idx)

    @property
    def weight(self) -> torch.Tensor:
        """`(outputs, inputs)`, float32; gradients reach the scales."""
        return self._weight(torch.float32)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """States, `(..., inputs)`, to `(..., outputs)` in their dtype."""
        bias = None if self.bias is None else self.bias.to(states.dtype)
        return nn.functional.linear(states, self._weight(states.dtype), bias)

    def _weight(self, dtype: torch.dtype) -> Any:
        return _Dequantize.apply(self.scales, self.codes, self.zeros, self.group, dtype)  # type: ignore[no-untyped-call]


def load_scaled(name: str | os.PathLike[str], *, trust_remote_code: bool = False) -> Any:
    """A GPTQ checkpoint as a model whose scales, norms and biases train, in float32.

    Args:
        name: Folder or Hub name.
        trust_remote_code: Run code that comes with the model.

    Raises:
        QuantizationError: if it is no GPTQ checkpoint.
    """
    checkpoint = GPTQCheckpoint.read(name)
    model = dense_model(checkpoint, torch.float32, trust_remote_code=trust_remote_code)
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.ndim == 1)
    for module, weight in checkpoint.packed.items():
        parent, _, last = module.rpartition(".")
        scaled = ScaledLinear(weight, checkpoint.plain.get(f"{module}.bias"))
        setattr(model.get_submodule(parent), last, scaled)
    return model


def save_scaled(model: Any, source: str | os.PathLike[str], folder: str | os.PathLike[str]) -> None:
    """Write what was trained into a copy of the GPTQ checkpoint that it was loaded from.

    Everything else, integers and zero points among it, is copied bit for bit.

    Args:
        model: Of `load_scaled`, trained.
        source: Folder of the checkpoint that it was loaded from.
        folder: Folder that is written.

    Raises:
        QuantizationError: if a scale left the range of float16, the type of the layout, or is no number.
    """
    from safetensors import safe_open
    from safetensors.torch import save_file

    trained = {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}
    wild = [
        name
        for name, value in trained.items()
        if name.endswith(".scales") and not bool((value.abs() <= _HALF.max).all())
    ]
    if wild:
        raise QuantizationError(
            f"{len(wild)} modules have scales beyond float16 after the recovery, such as {wild[0]}: use a smaller "
            "recover_learning_rate."
        )
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    written: set[str] = set()
    for path in sorted(Path(source).iterdir()):
        if path.suffix != ".safetensors":
            if path.is_file():
                shutil.copy(path, target / path.name)
            continue
        with safe_open(path, framework="pt") as file:
            metadata, names = file.metadata(), list(file.keys())
            tensors = {name: file.get_tensor(name) for name in names}
        written |= trained.keys() & tensors.keys()
        new = {name: trained[name].cpu().to(old.dtype) for name, old in tensors.items() if name in trained}
        save_file({**tensors, **new}, target / path.name, metadata=metadata)
    lost = sorted(trained.keys() - written)
    if lost:
        raise QuantizationError(f"{source} has no tensor {lost[0]}, which was trained: it is another checkpoint.")
