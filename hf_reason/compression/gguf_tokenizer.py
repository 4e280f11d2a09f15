"""The tokenizer of a model as GGUF keeps it: byte-level BPE, and the name of the rule that splits text into words.

llama.cpp has these rules in its code under the names below; a file only names one. A tokenizer with another rule would
be read without a word and cut text differently, so it is refused.
"""

import json
from dataclasses import dataclass
from typing import Any

from .errors import QuantizationError

# Of several names for one rule, the one that its first model has.
_NAMES = ("qwen2", "llama-bpe", "tekken", "gpt-4o", "qwen35")
_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED = 1, 3, 4, 5  # gguf.TokenType


@dataclass(frozen=True)
class GGUFTokenizer:
    """What a GGUF file says about a tokenizer.

    Attributes:
        tokens: Token of each id, in the byte alphabet where it is learned; as many as the model has embeddings.
        types: `gguf.TokenType` of each.
        merges: Pairs, a space between their halves, the first learned first.
        rule: Name of the splitting rule (`tokenizer.ggml.pre`).
        special: `bos`, `eos`, `eot`, `pad`, `unk` -> id, as far as there is one.
        add_bos: Whether a text gets the first token by itself.
        add_eos: Whether it gets the last one.
        chat_template: Jinja; `None` without one.
        notes: What llama.cpp does differently, in sentences.
    """

    tokens: list[str]
    types: list[int]
    merges: list[str]
    rule: str
    special: dict[str, int]
    add_bos: bool
    add_eos: bool
    chat_template: str | None
    notes: list[str]


def read_tokenizer(tokenizer: Any, vocab_size: int, stops: list[int] | int | None = None) -> GGUFTokenizer:
    """What GGUF can say about a tokenizer of transformers.

    Args:
        tokenizer: A fast tokenizer with a byte-level BPE.
        vocab_size: Rows of the model's embeddings; ids without a token are marked as unused.
        stops: Ids at which the model stops besides the tokenizer's own (`generation_config.eos_token_id`).

    Raises:
        QuantizationError: naming what GGUF or llama.cpp does not have.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise QuantizationError("the tokenizer is a slow one, without tokenizer.json: GGUF export needs its merges.")
    parts = json.loads(backend.to_str())
    model = parts["model"]
    if model["type"] != "BPE" or model.get("byte_fallback") or model.get("continuing_subword_prefix"):
        raise QuantizationError(f"the tokenizer is no byte-level BPE ({model['type']}), as GGUF export needs.")
    notes = [*_normalizer_notes(parts.get("normalizer")), *_template_notes(tokenizer)]
    if len(tokenizer) > vocab_size:
        raise QuantizationError(f"the tokenizer has {len(tokenizer)} tokens, the model embeds {vocab_size}.")
    tokens, types = _tokens(tokenizer, vocab_size)
    add_bos, add_eos = _added_ends(tokenizer)
    return GGUFTokenizer(
        tokens,
        types,
        [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]],
        _rule(parts.get("pre_tokenizer")),
        _special(tokenizer, stops),
        add_bos,
        add_eos,
        tokenizer.get_chat_template() if tokenizer.chat_template else None,
        notes,
    )


def _normalizer_notes(normalizer: Any) -> list[str]:
    if normalizer is None:
        return []
    if normalizer.get("type") != "NFC":
        raise QuantizationError(
            f"the tokenizer normalises text ({normalizer.get('type')}), which llama.cpp does not do for BPE."
        )
    return ["The tokenizer composes characters (NFC), llama.cpp does not: give it composed text."]


def _template_notes(tokenizer: Any) -> list[str]:
    """llama.cpp takes a template for one that can think if it writes `reasoning_content`; else it switches it off."""
    if not tokenizer.chat_template:
        return []
    question = [{"role": "user", "content": "1+1=?"}]
    answer = {"role": "assistant", "content": "2"}

    def written(messages: list[dict[str, str]], **options: Any) -> str | None:
        try:
            return str(tokenizer.apply_chat_template(messages, tokenize=False, **options))
        except Exception:  # whatever a template may raise on messages that it does not take
            return None

    prompts = [written(question, add_generation_prompt=True, **more) for more in ({}, {"enable_thinking": False})]
    thought = written([*question, {**answer, "reasoning_content": "THOUGHT"}])
    # transformers gives a template the thought under other names (`thinking`), too, which llama.cpp does not
    writes = "reasoning_content" in tokenizer.get_chat_template() and "THOUGHT" in (thought or "")
    if prompts[0] == prompts[1] or writes:
        return []
    return [
        "llama.cpp switches thinking off, since the chat template has enable_thinking but does not write "
        "reasoning_content: start llama-server with --chat-template-kwargs '{\"enable_thinking\": true}'."
    ]


def _rule(pre_tokenizer: Any) -> str:
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    steps = (pre_tokenizer or {}).get("pretokenizers", [pre_tokenizer or {}])
    plain = [step for step in steps if step.get("type") == "ByteLevel"]
    splits = [step for step in steps if step.get("type") == "Split"]
    if len(plain) == 1 and not plain[0].get("add_prefix_space") and len(splits) + 1 == len(steps):
        if not splits and plain[0].get("use_regex"):
            return "gpt-2"
        if len(splits) == 1 and not plain[0].get("use_regex") and splits[0].get("behavior") == "Isolated":
            pattern = splits[0]["pattern"].get("Regex")
            for name in _NAMES:
                if GGUF_PRE_TOKENIZER_SPLITS.get(name) == pattern:
                    return name
    raise QuantizationError(
        f"the tokenizer splits text by a rule that is none of llama.cpp's: {json.dumps(pre_tokenizer)[:300]}. "
        f"It knows those of {', '.join(('gpt-2', *_NAMES))}."
    )


def _tokens(tokenizer: Any, vocab_size: int) -> tuple[list[str], list[int]]:
    known = {number: token for token, number in tokenizer.get_vocab().items()}
    added = tokenizer.added_tokens_decoder
    tokens, types = [], []
    for number in range(vocab_size):
        if number in added:
            tokens.append(added[number].content)
            types.append(_CONTROL if added[number].special else _USER_DEFINED)
        elif number in known:
            tokens.append(known[number])
            types.append(_NORMAL)
        else:
            tokens.append(f"[PAD{number}]")
            types.append(_UNUSED)
    return tokens, types


def _added_ends(tokenizer: Any) -> tuple[bool, bool]:
    """Whether a text gets a first and a last token by itself."""
    plain = tokenizer("1", add_special_tokens=False)["input_ids"]
    whole = tokenizer("1")["input_ids"]
    for first in (False, True):
        for last in (False, True):
            ends = [tokenizer.bos_token_id] * first + plain + [tokenizer.eos_token_id] * last
            if whole == ends:
                return first, last
    raise QuantizationError(
        f"the tokenizer puts {tokenizer.decode(whole)!r} around a text, which GGUF cannot say: only a bos token "
        "before it and an eos token after it."
    )


def _special(tokenizer: Any, stops: list[int] | int | None) -> dict[str, int]:
    names = {"bos": "bos_token_id", "eos": "eos_token_id", "pad": "pad_token_id", "unk": "unk_token_id"}
    found = {key: getattr(tokenizer, name) for key, name in names.items() if getattr(tokenizer, name) is not None}
    more = [stops] if isinstance(stops, int) else list(stops or [])
    others = [stop for stop in more if stop != found.get("eos")]
    if "eos" not in found and others:
        found["eos"] = others.pop(0)
    if others:
        found["eot"] = others[0]
    return found
