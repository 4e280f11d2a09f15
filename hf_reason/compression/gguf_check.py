"""Is a GGUF file the model that it was made from? Read again by transformers and compared.

The weights must be the rounded ones exactly, in every place; the tokenizer must give the same ids; how far rounding
moves the outputs is measured.
"""

import contextlib
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .errors import QuantizationError
from .gguf import GGUFExport, gguf_tensors, import_gguf

# What splitting rules disagree on: digits, spaces, scripts, contractions, symbols.
TEXTS = (
    "小明有3个苹果，又买了12个，一共有15个。",
    "Let's see: 3.14159 * 1,000 = 3141.59, isn't it?  I'VE checked.",
    "  \n\n\t  x\r\n  y \n",
    "\\frac{1}{2}+\\sqrt{x_1^2}=\\boxed{42}$",
    "Привет мир, γεια σου, 日本語テスト, 한국어 🙂🚀 café",
    "1234567890 0x1F 第12345条 a1b2c3",
)


@dataclass(frozen=True)
class GGUFCheck:
    """What the comparison found.

    Attributes:
        tensors: Weights that are, to the bit, the rounded ones.
        texts: Texts that give the same ids.
        largest_difference: Of a logit.
        mean_kl: Nats a token, from the model's distribution to the file's.
        same_choice: Fraction of tokens after which both would say the same next.
        notes: What transformers does not read from the file, in sentences.
    """

    tensors: int
    texts: int
    largest_difference: float
    mean_kl: float
    same_choice: float
    notes: list[str]

    def __str__(self) -> str:
        return (
            f"{self.tensors} tensors and the ids of {self.texts} texts are right; largest difference of a logit "
            f"{self.largest_difference:.3g}, KL {self.mean_kl:.2g} nats a token, same choice {self.same_choice:.1%}"
        )


@torch.no_grad()
def check_gguf(
    path: str | Path, model: Any, tokenizer: Any, export: GGUFExport, prompts: Sequence[str], *, max_kl: float = 0.1
) -> GGUFCheck:
    """Load a file by transformers and compare it with the model that was written.

    Args:
        path: The file.
        model: The dense model, as it was given to `write_gguf`.
        tokenizer: Its tokenizer.
        export: What `write_gguf` returned.
        prompts: Texts on which the outputs are compared; special tokens may be in them.
        max_kl: Largest mean KL divergence, nats a token.

    Raises:
        QuantizationError: naming what differs.
    """
    path = Path(path)
    loaded = _load(path, model)
    tensors = _compare_weights(path, model, loaded)
    texts = _compare_tokens(path, tokenizer, export, prompts)
    largest, divergence, same, count = 0.0, 0.0, 0, 0
    for prompt in prompts:
        ids = torch.tensor([tokenizer(prompt, add_special_tokens=False)["input_ids"]])
        before = model(input_ids=ids.to(model.device)).logits[0].double().cpu()
        after = loaded(input_ids=ids).logits[0].double()
        largest = max(largest, float((before - after).abs().max()))
        left, right = before.log_softmax(-1), after.log_softmax(-1)
        divergence += float((left.exp() * (left - right)).sum())
        same += int((before.argmax(-1) == after.argmax(-1)).sum())
        count += ids.shape[1]
    found = GGUFCheck(tensors, texts, largest, divergence / count, same / count, _unread(path, model))
    if not math.isfinite(found.mean_kl) or found.mean_kl > max_kl:
        raise QuantizationError(
            f"the file's outputs are too far from the model's: KL {found.mean_kl:.3g} nats a token, max_kl={max_kl}. "
            "Take a type of more bits, or allow more."
        )
    return found


def _load(path: Path, model: Any) -> Any:
    from transformers import AutoModelForCausalLM, GgufConfig

    options: Any = {"quantization_config": GgufConfig(dequantize=True), "dtype": torch.float32}
    with _quiet():
        found = AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, config=_config(model.config), **options
        )
    return found.eval()


def _config(config: Any) -> Any:
    """The model's config; a Mistral's as that of a Llama, which it is in GGUF."""
    import copy

    from transformers import LlamaConfig

    if config.model_type != "mistral":
        return copy.deepcopy(config)
    values = {name: value for name, value in config.to_dict().items() if name not in ("model_type", "sliding_window")}
    return LlamaConfig(**values)


def _compare_weights(path: Path, model: Any, loaded: Any) -> int:
    gguf = import_gguf()
    read = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    there = dict(gguf_tensors(loaded))
    names = [name for name, _ in gguf_tensors(model)]
    if set(names) != set(read) or set(names) != set(there):
        missing = sorted(set(names) ^ set(read)) or sorted(set(names) ^ set(there))
        raise QuantizationError(f"the file has other tensors than the model: {', '.join(missing[:3])}.")
    for name, tensor in gguf_tensors(model):
        kind = read[name].tensor_type
        rounded = gguf.quants.dequantize(gguf.quants.quantize(tensor.contiguous().numpy(), kind), kind)
        if not torch.equal(torch.from_numpy(rounded), there[name]):
            raise QuantizationError(f"{name} is read from the file as other numbers than were written.")
    return len(names)


def _compare_tokens(path: Path, tokenizer: Any, export: GGUFExport, prompts: Sequence[str]) -> int:
    from transformers import AutoTokenizer

    with _quiet():
        read = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    texts = [*TEXTS, *(prompts if _special_are_read(export) else ())]
    for text in texts:
        ours, theirs = (words(text, add_special_tokens=False)["input_ids"] for words in (tokenizer, read))
        if ours != theirs:
            raise QuantizationError(f"the tokenizer in the file gives other ids for {text[:60]!r}.")
    template = tokenizer.get_chat_template() if tokenizer.chat_template else None
    if read.chat_template != template:
        raise QuantizationError("the chat template in the file is not the tokenizer's.")
    return len(texts)


def _special_are_read(export: GGUFExport) -> bool:
    """Whether transformers reads all control tokens: it drops those with letters beyond the byte alphabet."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    words, alphabet = export.tokenizer, set(bytes_to_unicode().values())
    if words is None:
        return False
    pairs = zip(words.tokens, words.types, strict=True)
    return all(set(token) <= alphabet for token, kind in pairs if kind in (3, 4))


def _unread(path: Path, model: Any) -> list[str]:
    """What transformers' own reading of the config gets wrong: llama.cpp's is its own."""
    from transformers import AutoConfig

    with _quiet():
        read = AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
    config, other = model.config, []
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    for name in (*names, "vocab_size", "tie_word_embeddings", "attention_bias", "mlp_bias"):
        if getattr(read, name, None) != getattr(config, name, None) and hasattr(config, name):
            other.append(name)
    width = config.hidden_size // config.num_attention_heads
    widths = [getattr(each, "head_dim", None) or width for each in (config, read)]
    other += ["head_dim"] if widths[0] != widths[1] else []
    kinds = ("rope_type", "factor", "rope_theta")
    if any(config.rope_parameters.get(key) != (read.rope_parameters or {}).get(key) for key in kinds):
        other.append("rope_parameters")
    if not other:
        return []
    return [f"transformers does not read {', '.join(other)} from GGUF: load with config=, from the model's folder."]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the bars of transformers, which stand on standard error."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        if shown:
            logging.enable_progress_bar()
