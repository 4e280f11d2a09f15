"""Chat templates: those that read a message's text, and those of vision-language models, which read its parts."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


# What templates call the switch between thinking and not: Qwen3, GLM-4.5, SmolLM3 and most others the first;
# DeepSeek-V3.1, Kimi and Granite the second. A template reads the name that it knows and ignores the other.
SWITCHES = ("enable_thinking", "thinking")


class ChatTemplateError(ValueError):
    """A chat template that fails on the messages of a prompt. It is a program that came with the model."""


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
        ChatTemplateError: if the template accepts neither form.
    """
    written, failure = "", None
    parts = [{**message, "content": [{"type": "text", "text": message["content"]}]} for message in messages]
    for form in (list(messages), parts):
        try:
            text = str(tokenizer.apply_chat_template(form, tokenize=False, **options))  # type: ignore[arg-type]
            text.encode()  # half a character, which a template in JSON can hold, is no text for a tokenizer
        except Exception as error:  # whatever a program may raise: 1 / 0, an undefined name, the sandbox's refusal
            failure = failure or error
            continue
        if all(message["content"].strip() in text for message in messages):
            return text
        written = written or text
    if failure is not None and not written:
        raise ChatTemplateError(
            f"the model's chat template fails: {' '.join(str(failure).split()) or type(failure).__name__}. Take the "
            "template of the model's authors, or set tokenizer.chat_template and save the tokenizer again."
        ) from failure
    return written
