"""Files of a checkpoint for readers built on transformers 4: auto-gptq, and servers that pin it.

transformers 5 moved and renamed fields that version 4 then misses without a word: it takes a rotary base of 10000 when
`rope_theta` is not at the top level. Here the old names are written beside the new ones.
"""

import json
import os
from pathlib import Path
from typing import Any

from hf_reason._files import write_json_atomically

# Names of classes that version 4 does not have; it reads their tokenizer.json under this one.
_NEW_CLASSES = ("TokenizersBackend", "PythonBackend", "SentencePieceBackend")
_ANY_TOKENIZER = "PreTrainedTokenizerFast"
_NESTED = {"full_attention": "rope_theta", "sliding_attention": "rope_local_base_freq"}  # Gemma 3


def write_for_older_readers(folder: str | os.PathLike[str]) -> None:
    """Give `config.json` and `tokenizer_config.json` the names of transformers 4, where this version reads the same.

    - `rope_theta`, `partial_rotary_factor`, `rope_scaling` (and Gemma's `rope_local_base_freq`) from `rope_parameters`
    - `torch_dtype` from `dtype`
    - `additional_special_tokens` in place of a list of `extra_special_tokens`, at which version 4.57 stops
    - `PreTrainedTokenizerFast` in place of a class that version 4 does not know, where there is a `tokenizer.json`

    A config with code of its own (`auto_map`), which needs this version anyway, stays as it is, and so does a file
    that would be read differently with the old names.
    """
    config = Path(folder, "config.json")
    if config.is_file() and "auto_map" not in _read(config):
        _replace(config, older_config(_read(config)), _config_as_read)
    tokenizer = Path(folder, "tokenizer_config.json")
    if tokenizer.is_file() and "auto_map" not in _read(tokenizer):
        has_file = Path(folder, "tokenizer.json").is_file()
        _replace(tokenizer, older_tokenizer_config(_read(tokenizer), has_file), _tokenizer_as_read)


def older_config(config: dict[str, Any]) -> dict[str, Any]:
    """The fields of a config, with the old names added; what is there already stays."""
    added: dict[str, Any] = {}
    rope = config.get("rope_parameters") or {}
    if _NESTED.keys() & rope.keys():
        for kind, name in _NESTED.items():
            if "rope_theta" in (rope.get(kind) or {}):
                added[name] = rope[kind]["rope_theta"]
        rope = rope.get("full_attention") or {}
    for name in ("rope_theta", "partial_rotary_factor"):
        if name in rope:
            added[name] = rope[name]
    if rope.get("rope_type", "default") != "default":
        added["rope_scaling"] = {key: value for key, value in rope.items() if key not in added}
    if "dtype" in config:
        added["torch_dtype"] = config["dtype"]
    return added | config


def older_tokenizer_config(config: dict[str, Any], has_file: bool) -> dict[str, Any]:
    """The fields of a tokenizer's config as transformers 4 names them.

    Args:
        config: As transformers 5 writes it.
        has_file: Whether there is a `tokenizer.json`.
    """
    found = dict(config)
    if isinstance(found.get("extra_special_tokens"), list):
        extra = found.pop("extra_special_tokens")
        if extra:
            found["additional_special_tokens"] = extra
    if has_file and found.get("tokenizer_class") in _NEW_CLASSES:
        found["tokenizer_class"] = _ANY_TOKENIZER
    return found


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _replace(path: Path, values: dict[str, Any], as_read: Any) -> None:
    """Write the values; put the file back if it is read differently then."""
    known = path.read_text(encoding="utf-8")
    if values == json.loads(known):
        return
    before = as_read(path.parent)
    write_json_atomically(path, values)
    if as_read(path.parent) != before:
        path.write_text(known, encoding="utf-8")


def _config_as_read(folder: Path) -> Any:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(folder).to_dict()


def _tokenizer_as_read(folder: Path) -> Any:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return (
        type(tokenizer).__name__,
        backend.to_str() if backend is not None else tokenizer.get_vocab(),
        tokenizer.special_tokens_map,
        [str(token) for token in tokenizer.extra_special_tokens],
        tokenizer.model_max_length,
        tokenizer.padding_side,
        tokenizer.chat_template,
    )
