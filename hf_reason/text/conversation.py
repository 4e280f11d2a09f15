"""The prompt of a conversation: several turns, of which the last is a question as `render` writes it."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from .chat import ChatTemplateError, apply_chat_template, mode_options
from .render import CLOSE_TAG, EMPTY_THOUGHT, build_prompt, opened_by_prompt, split_completion, user_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ROLES = ("system", "user", "assistant")


def build_conversation(
    messages: Sequence[Mapping[str, str]],
    tokenizer: "PreTrainedTokenizerBase | None" = None,
    *,
    task: str = "",
    domain: str = "",
    instructions: Mapping[str, str] | None = None,
    thinking: bool = True,
) -> str:
    """The prompt of a conversation, generation prompt included.

    A single user turn gives exactly `build_prompt`'s text. Of earlier assistant turns only the answers are read, as
    the templates of reasoning models do it.

    Args:
        messages: `role` and `content` of each turn; the last is the user's.
        tokenizer: Its chat template is used if it has one.
        task: What is asked of the reasoner, for the last turn.
        domain: Domain of the last turn, whose instruction is used.
        instructions: Template of each domain.
        thinking: `False` closes an empty thought, where the template has not, so that the answer follows.

    Raises:
        ValueError: if there is no question, or the tokenizer has no template for several turns or refuses them.
    """
    turns = [dict(message) for message in messages]
    if not turns or turns[-1]["role"] != "user" or not turns[-1]["content"].strip():
        raise ValueError("The last message has to be the user's and to have a text.")
    record = {"context": turns[-1]["content"], "task": task, "domain": domain}
    if len(turns) == 1:
        prompt = build_prompt(record, tokenizer, instructions=instructions, thinking=thinking)
        return prompt if thinking else _answering(prompt)
    if tokenizer is None or not tokenizer.chat_template:
        raise ValueError("The model has no chat template, so it reads one message of a user and nothing before it.")
    for turn in turns[:-1]:
        if turn["role"] == "assistant":
            turn["content"] = answer_of(turn["content"])
    turns[-1]["content"] = user_text(record, instructions)
    try:
        prompt = apply_chat_template(tokenizer, turns, add_generation_prompt=True, **mode_options(thinking))
    except ChatTemplateError as error:
        raise ValueError(f"The model's chat template refuses these messages: {error}") from error
    lost = next((turn["content"] for turn in turns if turn["content"].strip() not in prompt), None)
    if lost is not None:
        raise ValueError(f"The model's chat template leaves out the message {lost[:60]!r}. Send the last one alone.")
    return prompt if thinking else _answering(prompt)


def answer_of(text: str) -> str:
    """A turn of an assistant without its thought."""
    _, tag, rest = split_completion(text)
    return rest.strip() if tag else text


def _answering(prompt: str) -> str:
    """The prompt with a closed, empty thought, as training has it for records without steps."""
    opened = opened_by_prompt(prompt)
    if CLOSE_TAG in opened:
        return prompt
    return prompt + EMPTY_THOUGHT.removeprefix(opened)
