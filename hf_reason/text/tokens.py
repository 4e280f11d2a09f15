"""Special tokens: which token ends a turn, which one pads, and which ones stop generation."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from .chat import apply_chat_template

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Tokens for padding or for nothing that model families bring along, the best first. Marks of images, video and sound
# are no padding of text: processors put features in their places.
_SPARE = tuple(
    re.compile(rf"\W*(?:{pattern})\W*")
    for pattern in (
        r"▁?pad▁?|padding|pad_token",
        r"(?!im_|image|video|audio)(?:[a-z]+_)?(?:right_)?pad(?:_id)?",
        r"endoftext",
        r"(?:reserved|unused|extra|dummy|place.?holder|special|control|reg(?=\d))[\w▁ ]*\d+",
    )
)
_BRACKETS = ("<", "[", ">>", "|")


# Rendering a template for each of a million records is slow: (template, EOS, size) -> id, per tokenizer.
_ends: "WeakKeyDictionary[PreTrainedTokenizerBase, tuple[tuple, int]]" = WeakKeyDictionary()


def end_token_id(tokenizer: "PreTrainedTokenizerBase") -> int:
    """The id that ends an assistant turn: what the chat template writes after it, else the EOS.

    They differ for base models that carry a chat template (Qwen2.5 base ends turns with `<|im_end|>` while its
    EOS is `<|endoftext|>`); training on the wrong one gives a model that never stops.

    Raises:
        ValueError: if the tokenizer has neither.
    """
    key = (str(tokenizer.chat_template), tokenizer.eos_token_id, len(tokenizer))
    cached = _ends.get(tokenizer)
    if cached is None or cached[0] != key:
        _ends[tokenizer] = cached = (key, _find_end_token_id(tokenizer))
    return cached[1]


def _find_end_token_id(tokenizer: "PreTrainedTokenizerBase") -> int:
    if tokenizer.chat_template:
        messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "turn-probe"}]
        text = apply_chat_template(tokenizer, messages)
        tail = tokenizer(text.rpartition("turn-probe")[2], add_special_tokens=False)["input_ids"]
        special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
        for token_id in tail:
            if token_id in special:
                return int(token_id)
    if tokenizer.eos_token_id is None:
        raise ValueError("The tokenizer has no EOS token, so a model could not learn to stop. Set `eos_token`.")
    return int(tokenizer.eos_token_id)


def ensure_pad_token(tokenizer: "PreTrainedTokenizerBase", rows: int | None = None) -> bool:
    """Give the tokenizer a padding token that ends nothing; `True` if a token had to be added.

    A pad that equals the EOS or the end of turn is masked out with the padding by tools that look for its id, and the
    model never learns to stop. A spare token of the vocabulary is used where there is one: one made for padding, a
    reserved or unused one, or the unknown token. Else `<|pad|>` is added.

    Args:
        tokenizer: The tokenizer, which is changed.
        rows: Number of rows of the model's embeddings, if it is known. They are never enlarged for the sake of
            padding: without a spare token and a spare row the EOS pads, as in TRL. The batches of this project mask
            by length, so that nothing is lost.
    """
    ends = {tokenizer.eos_token_id, end_token_id(tokenizer)}
    limit = float("inf") if rows is None else rows

    def fits(token_id: int | None) -> bool:
        return token_id is not None and 0 <= token_id < limit and token_id not in ends

    if fits(tokenizer.pad_token_id):
        return False
    spare = _spare_token(tokenizer, fits)
    if spare is not None:
        tokenizer.pad_token = spare
    elif _next_id(tokenizer) < limit:
        tokenizer.add_special_tokens({"pad_token": "<|pad|>"})
        return True
    else:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(end_token_id(tokenizer))
    return False


def _spare_token(tokenizer: "PreTrainedTokenizerBase", fits: Callable[[int | None], bool]) -> str | None:
    vocabulary, template = tokenizer.get_vocab(), str(tokenizer.chat_template or "")
    marks = {
        token: token.lower()
        for token, token_id in vocabulary.items()
        if token.startswith(_BRACKETS) and fits(token_id) and token not in template and token != tokenizer.bos_token
    }
    for pattern in _SPARE:
        # of many reserved tokens the last one: those who add tokens of their own take the first
        found = [token for token, name in marks.items() if pattern.fullmatch(name)]
        if found:
            return max(found, key=vocabulary.__getitem__)
    unknown = tokenizer.unk_token or "<unk>"
    return unknown if fits(vocabulary.get(unknown)) else None


def _next_id(tokenizer: "PreTrainedTokenizerBase") -> int:
    return max(tokenizer.get_vocab().values(), default=-1) + 1


def fit_embeddings(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> bool:
    """Enlarge the embeddings when the tokenizer has ids beyond them; `True` if it did. Never shrinks them."""
    if len(tokenizer) <= embedding_rows(model):
        return False
    model.resize_token_embeddings(len(tokenizer))
    return True


def fit_tokens(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", *, adapter: bool) -> None:
    """Make tokenizer and model fit for training: a pad token, and a row of the embeddings for each token of a text.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        adapter: An adapter is trained. Its base stays as it is, because the adapter would fit no other copy of it.

    Raises:
        ValueError: if an adapter's base lacks rows for tokens of the tokenizer.
    """
    rows, pad = embedding_rows(model), tokenizer.pad_token
    ensure_pad_token(tokenizer, rows)
    beyond = sorted(
        (token_id, token) for token, token_id in tokenizer.get_vocab().items() if token_id >= rows and token != pad
    )
    if not beyond:
        return
    if adapter:
        names = ", ".join(repr(token) for _, token in beyond[:3])
        raise ValueError(
            f"The tokenizer has {len(beyond)} tokens ({names}{', ...' if len(beyond) > 3 else ''}) beyond the "
            f"{rows} rows of the embeddings, and an adapter on an enlarged base loads on no other copy of it. Use the "
            "tokenizer that belongs to the model, or enlarge the model first (model.resize_token_embeddings), save "
            "it with the tokenizer, and train the adapter on what you saved."
        )
    model.resize_token_embeddings(beyond[-1][0] + 1)


def embedding_rows(model: "PreTrainedModel") -> int:
    """Number of rows of the input embeddings, of which ZeRO-3 holds a part in each process."""
    weight: Any = model.get_input_embeddings().weight
    return int(getattr(weight, "ds_shape", weight.shape)[0])


def align_generation_config(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> None:
    """Write the stop tokens and the pad into the model's generation config, so that a saved model stops.

    The end of turn comes first, the EOS and what was there before follow.
    """
    config = model.generation_config
    before = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    stops = [end_token_id(tokenizer), tokenizer.eos_token_id, *before]
    config.eos_token_id = list(dict.fromkeys(int(token) for token in stops if token is not None))
    config.pad_token_id = tokenizer.pad_token_id
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
