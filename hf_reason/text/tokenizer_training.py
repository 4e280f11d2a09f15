"""A small byte-level BPE tokenizer made from one's own data, for models trained from scratch."""

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import Qwen2Tokenizer

# The shape of ChatML, with one token for each mark, and Qwen3's switch between thinking and not. A thought may come as
# a field of its own: llama.cpp closes the thought of every prompt if the template has the switch and not the field.
_CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' }}"
    "{% if message['role'] == 'assistant' and message['reasoning_content'] %}"
    "{{ '<think>\\n' + message['reasoning_content'] + '\\n</think>\\n\\n' }}{% endif %}"
    "{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ '<|end|>' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}"
    "{% endif %}"
)
# <|endoftext|> is what Qwen2Tokenizer adds by itself when it is missing.
_PAD, _END = "<|endoftext|>", "<|end|>"
_ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
_TAGS = ("<think>", "</think>")


def train_tokenizer(texts: Iterable[str], vocab_size: int, model_max_length: int = 4096) -> "Qwen2Tokenizer":
    """Train a byte-level BPE tokenizer with a chat template on `texts`.

    It is a `Qwen2Tokenizer`, with Qwen2's rules of what may be in one token (every digit stands alone): for several
    model types `AutoTokenizer` builds that class whatever was saved, and other rules would change the tokens of a
    reloaded model without a word. Bytes are the base alphabet, so every text comes back as it was.

    Args:
        texts: What the model will read and write.
        vocab_size: Upper bound; a small corpus gives fewer tokens. At least 300.
        model_max_length: Longest input in tokens, kept in the tokenizer's settings.

    Raises:
        ValueError: if `vocab_size` leaves no room for merges.
    """
    from tokenizers import AddedToken, pre_tokenizers, trainers
    from transformers import Qwen2Tokenizer

    if vocab_size < 300:
        raise ValueError(f"vocab_size={vocab_size} is too small: 256 bytes and the special tokens need 300.")
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(_TAGS),
        special_tokens=[_PAD, _END, *_ROLES],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend = Qwen2Tokenizer().backend_tokenizer
    backend.train_from_iterator(texts, trainer)
    learned = json.loads(backend.to_str())["model"]
    tokenizer = Qwen2Tokenizer(
        vocab=learned["vocab"],
        merges=[tuple(merge) for merge in learned["merges"]],  # type: ignore[misc]
        pad_token=_PAD,
        eos_token=_END,
        additional_special_tokens=list(_ROLES),
        model_max_length=model_max_length,
        clean_up_tokenization_spaces=False,
    )
    # Not special: they are text that must survive skip_special_tokens=True.
    tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in _TAGS])
    tokenizer.chat_template = _CHAT_TEMPLATE
    return tokenizer
