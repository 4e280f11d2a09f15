"""bitsandbytes: NF4 (4 bit) and int8, rounded without calibration; a checkpoint that `from_pretrained` reads."""

import os
from collections.abc import Sequence
from typing import Any

import torch

from .errors import MissingExtraError, QuantizationError
from .projections import projections

METHODS = ("nf4", "int8")
_CPU_ROWS = 32


def quantize_bnb(
    name: str | os.PathLike[str], method: str = "nf4", *, skip: Sequence[str] = (), dtype: Any = None
) -> Any:
    """A saved model with its linear modules in 4 or 8 bits; the head and the embeddings stay whole.

    Args:
        name: Folder or Hub name of a model with plain weights (safetensors).
        method: `nf4`: 4-bit NormalFloat with double quantisation (T. Dettmers et al. 2023, arXiv 2305.14314); `int8`:
            LLM.int8() (2022, arXiv 2208.07339).
        skip: Modules that stay whole, by full name or last part.
        dtype: Of everything else, and of the products; default: bfloat16 for NF4, the model's own for int8.

    Returns:
        The model; `save_pretrained` writes it.

    Raises:
        QuantizationError: if the model cannot be quantised or a setting does not fit.
        MissingExtraError: naming the extra, if bitsandbytes is missing.
    """
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    if method not in METHODS:
        raise QuantizationError(f"method must be one of {', '.join(METHODS)}, got {method!r}.")
    check_bitsandbytes(method)
    plain = AutoModelForCausalLM.from_pretrained(name, dtype="auto", use_safetensors=True)
    found = projections(plain, "all")  # refuses what is quantised or adapted
    unused = [item for item in skip if not any(full == item or full.endswith(f".{item}") for full in found)]
    if unused:
        raise QuantizationError(f"skip={', '.join(unused)}: there is no such module.")
    head = [full for full, module in plain.named_modules() if module is plain.get_output_embeddings()]
    whole: Any = dtype or (torch.bfloat16 if method == "nf4" else plain.dtype)
    del plain
    options: dict[str, Any] = {"llm_int8_skip_modules": [*head, *skip]}
    if method == "nf4":
        options |= {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": True,
            "bnb_4bit_compute_dtype": whole,
        }
    else:
        options["load_in_8bit"] = True
    return AutoModelForCausalLM.from_pretrained(
        name, dtype=whole, quantization_config=BitsAndBytesConfig(**options), use_safetensors=True
    )


def check_bitsandbytes(method: str) -> None:
    """Whether bitsandbytes is installed.

    Raises:
        MissingExtraError: naming the extra.
    """
    try:
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(f"{method} needs the extra bnb: pip install 'hf_reason[bnb]' ({error}).") from error


def check_runs_here(model: Any) -> None:
    """Refuse 4-bit weights that bitsandbytes would rearrange for this CPU, and cannot, before they are measured.

    Raises:
        QuantizationError: naming the modules, on a CPU with AVX512-BF16.
    """
    from bitsandbytes.functional import has_avx512bf16

    if model.device.type != "cpu" or not has_avx512bf16():
        return
    unfit = [
        name
        for name, module in model.named_modules()
        if (state := getattr(getattr(module, "weight", None), "quant_state", None)) is not None
        and (state.shape[0] % _CPU_ROWS or state.shape[1] % state.blocksize)
    ]
    if unfit:
        raise QuantizationError(
            "bitsandbytes runs 4-bit weights on this CPU (AVX512-BF16) only where the outputs are a multiple of "
            f"{_CPU_ROWS} and the inputs of 64; {len(unfit)} modules have others, such as {unfit[0]}. Use "
            "--method int8, name them in --skip_modules, or run on a GPU."
        )
