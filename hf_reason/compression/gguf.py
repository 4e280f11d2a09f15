"""GGUF: one file with weights, tokenizer and chat template, which llama.cpp, Ollama and LM Studio run.

The format is that of https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; the package `gguf` of llama.cpp writes
it and knows the blocks of its types and its names of tensors.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from .errors import MissingExtraError, QuantizationError
from .gguf_config import ARCHITECTURES, write_fields
from .gguf_tokenizer import GGUFTokenizer, read_tokenizer

OUTTYPES = ("f32", "f16", "bf16", "q8_0", "q4_0")
# `general.file_type` of each
_FILE_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q8_0": 7, "bf16": 32}
_F16_MAX = 65504.0


@dataclass
class GGUFExport:
    """What was written.

    Attributes:
        types: Type -> number of tensors.
        notes: What a reader should know, in sentences.
        tokenizer: The tokenizer in the file.
    """

    types: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    tokenizer: GGUFTokenizer | None = None


def import_gguf() -> Any:
    """The package `gguf`.

    Raises:
        MissingExtraError: naming the extra.
    """
    try:
        import gguf
    except ImportError as error:
        raise MissingExtraError(f"GGUF needs the extra gguf: pip install 'hf_reason[gguf]' ({error}).") from error
    return gguf


@torch.no_grad()
def write_gguf(
    model: Any, tokenizer: Any, path: str | os.PathLike[str], outtype: str = "q8_0", name: str | None = None
) -> GGUFExport:
    """Write a model with its tokenizer as one GGUF file.

    Vectors (norms, biases) are float32. With `q4_0` the embeddings and the head are `q8_0`. Rows that are no multiple
    of 32, the size of a block, are `f16` with both; the export says how many.

    Args:
        model: A dense causal language model of `ARCHITECTURES`, without adapters.
        tokenizer: Its fast tokenizer.
        path: The file.
        outtype: `f32`, `f16`, `bf16`, `q8_0` (8.5 bits a weight) or `q4_0` (4.5).
        name: `general.name`; default: the file's.

    Raises:
        QuantizationError: if GGUF has no such architecture, rope scaling or tokenizer, or a weight does not fit the
            type. Nothing is left then.
        MissingExtraError: naming the extra.
    """
    gguf = import_gguf()
    if outtype not in OUTTYPES:
        raise QuantizationError(f"outtype must be one of {', '.join(OUTTYPES)}, got {outtype}.")
    path = Path(path)
    config = model.config
    if config.model_type not in ARCHITECTURES or getattr(model, "hf_quantizer", None) is not None:
        quantised = " quantised" if config.model_type in ARCHITECTURES else ""
        raise QuantizationError(
            f"the model is a{quantised} {config.model_type}; GGUF export supports dense models of "
            f"{', '.join(ARCHITECTURES)}."
        )
    stops = getattr(model.generation_config, "eos_token_id", None)
    words = read_tokenizer(tokenizer, model.get_input_embeddings().weight.shape[0], stops)
    done = GGUFExport(notes=list(words.notes), tokenizer=words)
    writer = gguf.GGUFWriter(path, ARCHITECTURES[config.model_type])
    try:
        writer.add_name(name or path.stem)
        writer.add_file_type(_FILE_TYPES[outtype])
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        done.notes += write_fields(writer, model)
        _write_tokenizer(writer, words)
        kinds = {name: _kind(gguf, name, tensor, outtype) for name, tensor in gguf_tensors(model)}
        for tensor_name, tensor in gguf_tensors(model):
            _declare(gguf, writer, tensor_name, tensor, kinds[tensor_name])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor_name, tensor in gguf_tensors(model):
            writer.write_tensor_data(_packed(gguf, tensor_name, tensor, kinds[tensor_name]))
        writer.close()
    except BaseException:
        writer.close()
        path.unlink(missing_ok=True)
        raise
    for kind in kinds.values():
        done.types[kind.name.lower()] = done.types.get(kind.name.lower(), 0) + 1
    fallen = sum(kind.name == "F16" for kind in kinds.values()) if outtype in ("q8_0", "q4_0") else 0
    if fallen:
        done.notes.append(f"{fallen} tensors with rows that are no multiple of 32 are f16, not {outtype}.")
    return done


def gguf_tensors(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Name in GGUF and float32 tensor of each weight; tied heads are left out.

    Raises:
        QuantizationError: for a weight that the architecture does not have.
    """
    gguf = import_gguf()
    config = model.config
    architecture = {label: number for number, label in gguf.MODEL_ARCH_NAMES.items()}[ARCHITECTURES[config.model_type]]
    names = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
    tied = bool(config.tie_word_embeddings)
    for name, tensor in model.state_dict().items():
        if tied and name == "lm_head.weight":
            continue
        found = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if found is None:
            raise QuantizationError(f"GGUF has no name for the weight {name} of a {config.model_type}.")
        tensor = tensor.detach().to("cpu", torch.float32)
        if ARCHITECTURES[config.model_type] == "llama" and name.split(".")[-2] in ("q_proj", "k_proj"):
            tensor = interleaved(tensor, _heads(config, name))
        yield found, tensor
    factors = rope_factors(model)
    if factors is not None:
        yield "rope_freqs.weight", factors


def interleaved(tensor: torch.Tensor, heads: int) -> torch.Tensor:
    """The rows of each head in the order of llama.cpp's `llama`, which rotates neighbours and not halves.

    Args:
        tensor: Weight `(heads * width, inputs)` or bias `(heads * width,)`.
        heads: Heads in it.
    """
    halves = tensor.reshape(heads, 2, -1, *tensor.shape[1:])
    return halves.transpose(1, 2).reshape(tensor.shape)


def rope_factors(model: Any) -> torch.Tensor | None:
    """What Llama 3's scaling divides each frequency by, `(head_dim / 2,)`; `None` without that scaling."""
    rope = model.config.rope_parameters
    if rope.get("rope_type") != "llama3":
        return None
    scaled = model.model.rotary_emb.inv_freq.detach().to("cpu", torch.float32)
    width = 2 * len(scaled)
    plain = 1.0 / rope["rope_theta"] ** (torch.arange(0, width, 2, dtype=torch.float32) / width)
    return plain / scaled


def _heads(config: Any, name: str) -> int:
    return int(config.num_attention_heads if ".q_proj." in name else config.num_key_value_heads)


def _kind(gguf: Any, name: str, tensor: torch.Tensor, outtype: str) -> Any:
    types = gguf.GGMLQuantizationType
    if tensor.ndim == 1 or outtype == "f32":
        return types.F32
    if outtype == "q4_0" and name in ("token_embd.weight", "output.weight"):
        outtype = "q8_0"
    if outtype in ("q8_0", "q4_0") and tensor.shape[-1] % 32:
        return types.F16
    return types[outtype.upper()]


def _packed(gguf: Any, name: str, tensor: torch.Tensor, kind: Any) -> Any:
    largest = float(tensor.abs().max()) if tensor.numel() else 0.0
    if not largest < float("inf"):
        raise QuantizationError(f"{name} has a weight that is no number.")
    # the scales of the blocks are halves, too
    limit = {"F16": 1, "Q8_0": 127, "Q4_0": 8}.get(kind.name)
    if limit and largest / limit > _F16_MAX:
        raise QuantizationError(f"{name} has weights up to {largest:.3g}, more than {kind.name} holds: use bf16.")
    return gguf.quants.quantize(tensor.contiguous().numpy(), kind)


def _declare(gguf: Any, writer: Any, name: str, tensor: torch.Tensor, kind: Any) -> None:
    import numpy

    plain = {"F32": numpy.float32, "F16": numpy.float16}.get(kind.name)
    if plain is not None:
        size = tensor.numel() * numpy.dtype(plain).itemsize
        writer.add_tensor_info(name, list(tensor.shape), numpy.dtype(plain), size)
        return
    shape = gguf.quants.quant_shape_to_byte_shape(tensor.shape, kind)
    writer.add_tensor_info(name, shape, numpy.dtype(numpy.uint8), int(numpy.prod(shape)), raw_dtype=kind)


def _write_tokenizer(writer: Any, words: GGUFTokenizer) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(words.rule)
    writer.add_token_list(words.tokens)
    writer.add_token_types(words.types)
    writer.add_token_merges(words.merges)
    for name, number in words.special.items():
        getattr(writer, f"add_{name}_token_id")(number)
    writer.add_add_bos_token(words.add_bos)
    writer.add_add_eos_token(words.add_eos)
    if words.chat_template:
        writer.add_chat_template(words.chat_template)
