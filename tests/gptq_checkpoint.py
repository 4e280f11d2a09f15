"""Old auto-gptq checkpoints made with plain code: the documented layout, without a library that quantises."""

import copy
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn
from transformers.pytorch_utils import Conv1D


def packed_words(numbers: torch.Tensor, bits: int) -> torch.Tensor:
    """Numbers `(count, columns)` as a stream of bits in words of 32, `(words, columns)`, with Python's integers."""
    count, columns = numbers.shape
    words = -(-count * bits // 32)
    found = torch.zeros(words, columns, dtype=torch.int32)
    for column in range(columns):
        stream = sum(int(number) << (bits * place) for place, number in enumerate(numbers[:, column].tolist()))
        for word in range(words):
            value = (stream >> (32 * word)) & 0xFFFFFFFF
            found[word, column] = value - 2**32 if value >= 2**31 else value
    return found


def rounded(
    weight: torch.Tensor, bits: int, group: torch.Tensor, sym: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Codes `(inputs, outputs)`, zero points and scales `(groups, outputs)` of a weight `(outputs, inputs)`."""
    most, columns = 2**bits - 1, weight.T
    codes, zeros, scales = torch.zeros_like(columns, dtype=torch.long), [], []
    for number in range(int(group.max()) + 1):
        rows = columns[group == number]
        low, high = rows.amin(0).clamp(max=-1e-4), rows.amax(0).clamp(min=1e-4)
        if sym:
            high = torch.maximum(-low, high)
            low = -high
        scale = ((high - low) / most).half().float()
        # version 1 stores one less, so that it has no zero point 0
        zero = torch.full_like(scale, 2 ** (bits - 1)) if sym else (-low / scale).round().clamp(1, most)
        codes[group == number] = (rows / scale + zero).round().clamp(0, most).long()
        zeros.append(zero.long())
        scales.append(scale)
    return codes, torch.stack(zeros), torch.stack(scales)


def old_checkpoint(
    folder: Path,
    model: Any,
    tokenizer: Any,
    *,
    bits: int = 4,
    group_size: int = 16,
    desc_act: bool = False,
    sym: bool = True,
    file: str = "config.json",
    weights: str = "model.safetensors",
) -> Any:
    """Write a model as auto-gptq 0.4 did.

    Args:
        file: Where the settings are: `config.json`, or `quantize_config.json` alone.
        weights: Name of the file of weights.

    Returns:
        The dense model, float32, that the checkpoint stands for.
    """
    dense, tensors = copy.deepcopy(model).float().eval(), {}
    for name, module in dense.named_modules():
        if not isinstance(module, nn.Linear | Conv1D) or not any(part.isdigit() for part in name.split(".")):
            continue
        turned = isinstance(module, Conv1D)
        weight = module.weight.data.T if turned else module.weight.data
        inputs = weight.shape[1]
        group = torch.arange(inputs) // (group_size if group_size > 0 else inputs)
        if desc_act:
            group = group[torch.randperm(inputs, generator=torch.Generator().manual_seed(inputs))]
        codes, zeros, scales = rounded(weight, bits, group, sym)
        columns = scales[group] * (codes - zeros[group])
        module.weight.data = columns if turned else columns.T.contiguous()
        tensors[f"{name}.qweight"] = packed_words(codes, bits)
        tensors[f"{name}.qzeros"] = packed_words((zeros - 1).T, bits).T.contiguous()
        tensors[f"{name}.scales"] = scales.half()
        tensors[f"{name}.g_idx"] = group.int()
        if module.bias is not None:
            module.bias.data = module.bias.data.half().float()
            tensors[f"{name}.bias"] = module.bias.data.half()
    names = {name.rpartition(".")[0] for name in tensors}
    tied = set(getattr(model, "all_tied_weights_keys", {}))
    for name, value in dense.state_dict().items():
        if name.rpartition(".")[0] not in names and name not in tied:
            tensors[name] = value.half().clone()
            value.copy_(value.half())
    folder.mkdir(parents=True)
    save_file(tensors, folder / weights, metadata={"format": "pt"})
    tokenizer.save_pretrained(folder)
    settings = {"bits": bits, "group_size": group_size, "damp_percent": 0.01, "desc_act": desc_act, "sym": sym}
    settings |= {"true_sequential": True, "static_groups": False, "model_name_or_path": None}
    config = model.config.to_dict()
    if file == "config.json":
        config["quantization_config"] = {**settings, "quant_method": "gptq"}
    else:
        (folder / "quantize_config.json").write_text(json.dumps(settings))
    config["dtype"] = "float16"
    (folder / "config.json").write_text(json.dumps(config))
    return dense
