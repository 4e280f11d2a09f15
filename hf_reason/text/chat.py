"""Chat templates: those that read a message's text, and those of vision-language models, which read its parts."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


# What templates call the switch between thinking and not: Qwen3, GLM-4.5, SmolLM3 and most others the first;
# DeepSeek-V3.1, Kimi and Granite the second. A template reads the name that it knows and ignores the other.
SWITCHES = ("enable_thinking", "thinking")


def mode_options(thinking: bool) -> dict[str, Any]:
    """Options of a chat template that ask for an answer with a thought, or without one."""
    return dict.fromkeys(SWITCHES, thinking)


def apply_chat_template(
    tokenizer: "PreTrainedTokenizerBase", messages: Sequence[dict[str, str]], **options: Any
) -> str:
    """What the template writes for messages whose content is text.

    The templates of LLaVA, SmolVLM and others expect a list of parts, and drop a plain text or fail on it.

    Args:
        tokenizer: With a chat template.
        messages: `role` and `content`, a text.
        **options: For the template: `add_generation_prompt`, `enable_thinking`, ...

    Raises:
        jinja2.TemplateError: if the template accepts neither form.
    """
    from jinja2 import TemplateError

    written, failure = "", None
    parts = [{**message, "content": [{"type": "text", "text": message["content"]}]} for message in messages]
    for form in (list(messages), parts):
        try:
            text = str(tokenizer.apply_chat_template(form, tokenize=False, **options))  # type: ignore[arg-type]
        except (TemplateError, TypeError) as error:
            failure = failure or error
            continue
        if all(message["content"].strip() in text for message in messages):
            return text
        written = written or text
    if failure is not None and not written:
        raise failure
    return written
