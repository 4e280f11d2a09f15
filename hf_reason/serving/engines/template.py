"""The chat template of a tokenizer without the tokenizer: a gateway needs neither its vocabulary nor torch."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from hf_reason.text.instructions import INSTRUCTIONS_FILE, load_instructions


class ChatTemplate:
    """Stands in for a tokenizer where only prompts are built (`hf_reason.text.conversation`).

    Args:
        folder: With `tokenizer_config.json`, and `chat_template.jinja` where the template is apart.

    Raises:
        ValueError: if it has no tokenizer's files, or a template that cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        from jinja2 import TemplateError
        from jinja2.ext import loopcontrols
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        file = folder / "tokenizer_config.json"
        try:
            config = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(f"engine_tokenizer: {file} cannot be read. Give the model's folder.") from error
        apart = folder / "chat_template.jinja"
        found = apart.read_text(encoding="utf-8") if apart.is_file() else config.get("chat_template")
        if isinstance(found, list):  # named templates
            found = next((one["template"] for one in found if one.get("name") == "default"), None)
        self.chat_template: str | None = found or None
        names = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")
        self.special = {name: text for name in names if (text := _content(config.get(name)))}
        # as transformers renders templates
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise
        environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
        try:
            self._template = environment.from_string(self.chat_template or "")
        except TemplateError as error:
            raise ValueError(f"engine_tokenizer: the chat template of {folder} has an error: {error}") from error
        instructions = folder / INSTRUCTIONS_FILE
        self.instructions = load_instructions(instructions) if instructions.is_file() else {}

    def apply_chat_template(self, messages: list[dict[str, Any]], tokenize: bool = False, **options: Any) -> str:
        """What the template writes; see transformers' method of this name."""
        return self._template.render(
            messages=messages, **{**self.special, "tools": None, "documents": None, **options}
        )


def load_template(name: str) -> ChatTemplate:
    """The template of a folder, or of a model on the Hub.

    Raises:
        ValueError: if it cannot be read.
    """
    if Path(name).is_dir():
        return ChatTemplate(Path(name))
    from huggingface_hub import snapshot_download

    files = ["tokenizer_config.json", "chat_template.jinja", INSTRUCTIONS_FILE]
    try:
        return ChatTemplate(Path(snapshot_download(name, allow_patterns=files)))
    except ValueError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"engine_tokenizer: {name} is no folder, and not on the Hub: {reason}") from error


def _content(token: Any) -> str | None:
    return token.get("content") if isinstance(token, dict) else token


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)


def _raise(message: str) -> None:
    from jinja2 import TemplateError

    raise TemplateError(message)
