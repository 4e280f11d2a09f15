"""Special tokens: which token ends a turn, which one pads, and which ones stop generation."""

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Tokens that model families reserve and do not use in text; any of them can pad.
_SPARE_TOKENS = (
    "<|pad|>",
    "<pad>",
    "[PAD]",
    "<|PAD_TOKEN|>",
    "<|endoftext|>",
    "<|fim_pad|>",
    "<|vision_pad|>",
    "<unk>",
)


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
        text = str(tokenizer.apply_chat_template(messages, tokenize=False))
        tail = tokenizer(text.rpartition("turn-probe")[2], add_special_tokens=False)["input_ids"]
        special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
        for token_id in tail:
            if token_id in special:
                return int(token_id)
    if tokenizer.eos_token_id is None:
        raise ValueError("The tokenizer has no EOS token, so a model could not learn to stop. Set `eos_token`.")
    return int(tokenizer.eos_token_id)


def ensure_pad_token(tokenizer: "PreTrainedTokenizerBase") -> bool:
    """Give the tokenizer a padding token that ends nothing; `True` if a token had to be added.

    A pad that equals the EOS or the end of turn is masked out with the padding, and the model never learns
    to stop. A spare token of the vocabulary is used where there is one, else `<|pad|>` is added; then the caller
    must make sure that the embeddings are large enough (`fit_embeddings`).
    """
    ends = {tokenizer.eos_token_id, end_token_id(tokenizer)}
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id not in ends:
        return False
    vocabulary = tokenizer.get_vocab()
    for token in _SPARE_TOKENS:
        if token in vocabulary and vocabulary[token] not in ends and token != tokenizer.bos_token:
            tokenizer.pad_token = token
            return False
    tokenizer.add_special_tokens({"pad_token": _SPARE_TOKENS[0]})
    return True


def fit_embeddings(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> bool:
    """Enlarge the embeddings when the tokenizer has ids beyond them; `True` if it did. Never shrinks them."""
    embeddings: Any = model.get_input_embeddings()
    if len(tokenizer) <= embeddings.weight.shape[0]:
        return False
    model.resize_token_embeddings(len(tokenizer))
    return True


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
