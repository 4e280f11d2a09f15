"""The two modes of a hybrid model, with a thought and without: does a chat template tell them apart?"""

import copy
from typing import TYPE_CHECKING, Any

from .multimodal import is_processor, tokenizer_in
from .render import CLOSE_TAG, EMPTY_THOUGHT, build_prompt, opened_by_prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PROBE = {"context": "x", "task": "", "domain": ""}


def _prompts(tokenizer: "PreTrainedTokenizerBase | None") -> tuple[str, str]:
    return build_prompt(_PROBE, tokenizer), build_prompt(_PROBE, tokenizer, thinking=False)


def has_switch(tokenizer: "PreTrainedTokenizerBase | None") -> bool:
    """Whether the prompt says if a thought is wanted.

    A chat template that has a switch (`hf_reason.text.chat.SWITCHES`) writes two prompts; the plain form of a
    tokenizer without a template does, too.
    """
    thinking, answering = _prompts(tokenizer)
    return thinking != answering


def add_thinking_switch(reader: Any) -> bool:
    """Give a chat template that has no switch between the modes one, which is saved with the tokenizer.

    With `enable_thinking=False` the generation prompt then closes an empty thought, as Qwen3's does. All other prompts
    stay as they were.

    Args:
        reader: A tokenizer or a processor, whose chat template is changed.

    Returns:
        Whether there was something to do.

    Raises:
        ValueError: if the template closes the thought in its generation prompt, or cannot be extended.
    """
    if not is_processor(reader):
        return _add_switch(reader)
    tokenizer = tokenizer_in(reader)
    added = _add_switch(tokenizer)
    if reader.chat_template:  # which need not be the tokenizer's
        stand_in = copy.copy(tokenizer)
        stand_in.chat_template = reader.chat_template
        added = _add_switch(stand_in) or added
        reader.chat_template = stand_in.chat_template
    return added


def _add_switch(tokenizer: "PreTrainedTokenizerBase") -> bool:
    if has_switch(tokenizer):
        return False
    before = tokenizer.chat_template
    thinking, _ = _prompts(tokenizer)
    opened = opened_by_prompt(thinking)
    if CLOSE_TAG in opened:
        raise ValueError(
            "The chat template closes the thought in its generation prompt, so there is no thinking mode to switch "
            "off. Use a template whose generation prompt leaves the thought open."
        )
    # what was opened with other white space is closed with the usual one
    rest = EMPTY_THOUGHT.removeprefix(opened) if EMPTY_THOUGHT.startswith(opened) else f"\n{CLOSE_TAG}\n\n"
    block = (
        "{% if add_generation_prompt and enable_thinking is defined and enable_thinking is false %}"
        f"{{{{ {rest!r} }}}}{{% endif %}}"
    )

    # the generation prompt is the last thing that a template writes; a line break at its very end is not written
    def extended(template: str) -> str:
        return template.removesuffix("\n") + block

    tokenizer.chat_template = (
        {name: extended(text) for name, text in before.items()} if isinstance(before, dict) else extended(str(before))
    )
    if _prompts(tokenizer) != (thinking, thinking + rest):
        tokenizer.chat_template = before
        raise ValueError(
            "The chat template could not be given a switch between thinking and not (enable_thinking): it sets that "
            "name itself. Use a template that has the switch."
        )
    return True


def check_modes(with_chain: int, without_chain: int, tokenizer: "PreTrainedTokenizerBase", what: str) -> None:
    """Refuse to mix both modes under one prompt.

    A record without a chain is an example of answering at once. Where the prompt does not say so, the model learns to
    think or not by chance, and loses its thinking mode.

    Args:
        with_chain: Records with a chain.
        without_chain: Records without one.
        tokenizer: Whose template writes the prompts.
        what: The records, for the message: `"training"`.

    Raises:
        ValueError: if there are both and the chat template has no switch.
    """
    if not with_chain or not without_chain or has_switch(tokenizer):
        return
    total = with_chain + without_chain
    raise ValueError(
        f"{without_chain} of {total} {what} records ({without_chain / total:.1%}) have no chain, and the chat "
        "template has no switch between thinking and not (enable_thinking): the same prompt would ask for both, and "
        "the model would stop thinking at random. Set add_thinking_switch=True (--add_thinking_switch true), which "
        "writes the switch into the template; or use a chat template that has one, leave out the records without a "
        "chain, or train all of them without thoughts (--thinking false)."
    )
