"""What auto-gptq's layout cannot hold."""

from collections.abc import Mapping
from typing import Any

from .errors import QuantizationError
from .packed import packed_modules, zero_points


def check_words(modules: Mapping[str, Any], bits: int) -> None:
    """Refuse 3 bits for a module that does not fill its words: 32 values are packed in three of them.

    Args:
        modules: Those that are to be quantised, with their names.
        bits: Of a weight.

    Raises:
        QuantizationError: naming the first module.
    """
    for name, module in modules.items() if bits == 3 else ():
        outputs, inputs = module.weight.shape
        if outputs % 32 or inputs % 32:
            raise QuantizationError(
                f"{name} has {inputs} inputs and {outputs} outputs, and 3 bits need multiples of 32. Use 4 bits, or "
                "leave it whole (skip)."
            )


def check_zero_points(model: Any, bits: int) -> None:
    """Refuse zero points of 0, which the layout stores less one.

    Raises:
        QuantizationError: naming the first module.
    """
    for name, module in packed_modules(model).items():
        zeros = zero_points(module.qzeros, bits, module.scales.shape[1])
        if not bool(zeros.all()):
            raise QuantizationError(
                f"{name} has {int((zeros == 0).sum())} zero points of 0, which auto-gptq's layout cannot hold. "
                "Quantise with sym=True."
            )
