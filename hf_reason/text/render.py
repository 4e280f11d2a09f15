"""The only prompt builder: a record to text and back. Training, evaluation and serving all call it.

For a tokenizer with a chat template the prompt is what the template writes for one user turn plus its
generation prompt; the completion is appended as text and never goes through the template, because templates
of reasoning models delete or move the thought of an assistant turn. A tokenizer without a template gets the
plain form "问题:...\\n回答:".
"""

import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_reason._files import digest
from hf_reason.data.images import references_in
from hf_reason.data.read.tag_families import TagFamilies
from hf_reason.data.read.think_tags import thought_blocks
from hf_reason.data.record import clean_text

from .chat import apply_chat_template, mode_options
from .multimodal import check_reads_images, image_prompt, tokenizer_in

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

OPEN_TAG, CLOSE_TAG = "<think>", "</think>"
EMPTY_THOUGHT = f"{OPEN_TAG}\n\n{CLOSE_TAG}\n\n"
TASK_LABEL = "推理要求:"

_STEP_LINE = re.compile(r"^( *)(步[骤驟]\d+[:：])", re.MULTILINE)
_ESCAPED_STEP_LINE = re.compile(r"^ ( *步[骤驟]\d+[:：])", re.MULTILINE)
# How a completion begins that has a thought, whether the prompt opened (or closed) it or not.
_THOUGHT_START = re.compile(rf"\s*(?:{OPEN_TAG}|{CLOSE_TAG}|步[骤驟]1[:：])")
_BLANK_LINES = re.compile(r"(?:[^\S\n]*\n)*")
_OWN_TAGS = TagFamilies("", [(OPEN_TAG, CLOSE_TAG)])
_TAG = re.compile(r"<(\\*)(/?think>)")
_ESCAPED_TAG = re.compile(r"<\\(\\*)(/?think>)")


@dataclass(frozen=True)
class Parsed:
    """The parts of a completion.

    Attributes:
        steps: The steps without their labels. A thought without labels is one step.
        answer: The text after the thought; empty when the thought was not closed.
        closed: Whether the thought was closed.
    """

    steps: list[str]
    answer: str
    closed: bool


def _escape(text: str) -> str:
    """Make a step or an answer safe to stand between the tags: the inverse of `unescape`."""
    return _TAG.sub(r"<\\\1\2", _STEP_LINE.sub(r" \1\2", text))


def unescape(text: str) -> str:
    return _ESCAPED_STEP_LINE.sub(r"\1", _ESCAPED_TAG.sub(r"<\1\2", text))


def step_texts(steps: list[str]) -> list[str]:
    """The labelled lines of a chain, one item a step: `步骤1:...`.

    No space follows the colon: byte-level vocabularies merge it with the first bytes of a Chinese character, which
    costs 2.3 tokens a step and breaks that character apart (DeepSeek-R1's tokenizer, 1,536 steps).
    """
    return [f"步骤{number}:{_escape(step)}" for number, step in enumerate(steps, start=1)]


def user_text(record: Mapping[str, Any], instructions: Mapping[str, str] | None = None) -> str:
    """What the user turn says: domain instruction, context and task.

    Args:
        record: A record (or anything with `context` and, optionally, `task` and `domain`).
        instructions: Template of each domain, with the fields `{context}`, `{task}` and `{domain}`; without
            `{context}` the text goes before the context, without `{task}` the task goes after it. `default` is for
            domains that have none. Default: no instructions.
    """
    if not isinstance(record.get("context"), str):
        raise ValueError(f"The record has no text in the field 'context'; its fields are {', '.join(record)}.")
    known, domain, task = instructions or {}, record.get("domain") or "", record.get("task") or ""
    template = known.get(domain, known.get("default", ""))
    fields = {name for _, name, _, _ in string.Formatter().parse(template)}
    if "context" not in fields:
        template += "{context}"
    text = template.format(context=record["context"], task=task, domain=domain)
    return text + (f"\n{TASK_LABEL}{task}" if task and "task" not in fields else "")


def _apply_template(tokenizer: "PreTrainedTokenizerBase", text: str, thinking: bool) -> str:
    messages = [{"role": "user", "content": text}]
    return apply_chat_template(tokenizer, messages, add_generation_prompt=True, **mode_options(thinking))


def build_prompt(
    record: Mapping[str, Any],
    tokenizer: "PreTrainedTokenizerBase | None" = None,
    *,
    instructions: Mapping[str, str] | None = None,
    thinking: bool = True,
) -> str:
    """The prompt of a record, generation prompt included.

    Args:
        record: A record.
        tokenizer: Its chat template is used if it has one. A record with images needs the model's processor.
        instructions: Template of each domain (`user_text`).
        thinking: `False` asks for the answer without a thought (hybrid models), by the template's own switch. The
            plain form closes an empty thought itself; a template without a switch writes the same in both modes.
    """
    text = user_text(record, instructions)
    if tokenizer is not None and (images := references_in(record)):
        check_reads_images(tokenizer)
        return image_prompt(tokenizer, text, len(images), add_generation_prompt=True, **mode_options(thinking))
    tokenizer = tokenizer_in(tokenizer)
    if tokenizer is not None and tokenizer.chat_template:
        return _apply_template(tokenizer, text, thinking)
    return f"问题:{text}\n回答:" + ("" if thinking else EMPTY_THOUGHT)


def opened_by_prompt(prompt: str) -> str:
    """The part of the thought's frame that the template has written already (often `<think>\\n`).

    Some templates close a thought that they have not opened (DeepSeek-V3.1: `</think>`).
    """
    match = re.search(r"(?:<think>\s*(?:</think>\s*)?|</think>\s*)$", prompt)
    return match.group() if match else ""


def completion_pieces(record: Mapping[str, Any], prompt: str) -> list[tuple[str, int]]:
    """The completion as consecutive `(text, step id)` pieces; joined they are the completion.

    Step ids run from 1 to n for the n steps; n + 1 is the answer. The opening tag belongs to the first step,
    the closing one to the last. What the prompt has opened already is not written again.
    """
    steps, answer = list(record.get("steps") or ()), _escape(record["answer"])
    opened = opened_by_prompt(prompt)
    if not steps:
        # An empty thought that the template injected stays in the prompt, so no loss ever falls on it.
        if CLOSE_TAG in opened:
            return [(answer, 1)]
        return [(EMPTY_THOUGHT[len(OPEN_TAG) + 1 :] if opened else EMPTY_THOUGHT, 1), (answer, 1)]
    if CLOSE_TAG in opened:
        raise ValueError(
            "The chat template closes the thought in its generation prompt, so a record with steps cannot follow. "
            "Render with thinking=True, or use a template whose generation prompt leaves the thought open."
        )
    pieces = [(line + "\n", number) for number, line in enumerate(step_texts(steps), start=1)]
    if not opened:
        pieces[0] = (f"{OPEN_TAG}\n{pieces[0][0]}", 1)
    elif not opened.endswith("\n"):
        pieces[0] = ("\n" + pieces[0][0], 1)
    pieces[-1] = (pieces[-1][0] + f"{CLOSE_TAG}\n\n", len(steps))
    return [*pieces, (answer, len(steps) + 1)]


def render(
    record: Mapping[str, Any],
    tokenizer: "PreTrainedTokenizerBase | None" = None,
    *,
    instructions: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """A record as `{"prompt", "completion"}`. A record without steps is rendered in the non-thinking mode.

    The completion does not include the end-of-turn token; `encode` adds its id.
    """
    prompt = build_prompt(record, tokenizer, instructions=instructions, thinking=bool(record.get("steps")))
    return {"prompt": prompt, "completion": "".join(text for text, _ in completion_pieces(record, prompt))}


def split_completion(text: str) -> tuple[str, str, str]:
    """A completion as the text up to the tag that closes its thought, that tag, and what follows it.

    What `render` writes has exactly one closing tag. A model's own text may speak of tags, in the thought or in the
    answer; which of them ends the thought is told as in `split_thought`. Without one, tag and rest are empty.
    """
    count = text.count(CLOSE_TAG)
    if not count or (count == 1 and _THOUGHT_START.match(text)):
        return text.partition(CLOSE_TAG)
    for block in thought_blocks(text, _OWN_TAGS):
        if block.closed:
            return text[: block.end], text[block.end : block.rest], text[block.rest :]
    return text, "", ""


def parse(text: str) -> Parsed:
    """The steps and the answer of a completion; the inverse of `render`'s completion.

    Accepts a thought with or without its opening tag (models whose prompt ends in `<think>` write none), and a
    completion that was cut before `</think>` (`closed=False`, no answer). Text with neither tag nor step label is
    an answer without a thought.
    """
    head, tag, tail = split_completion(text)
    opened = head.lstrip().startswith(OPEN_TAG)
    if opened:
        head = head.lstrip()[len(OPEN_TAG) :]
    if not tag and closes(text):
        return Parsed([], _clean_answer(text), True)
    body = "\n" + head.strip()
    positions = _label_spans(body)
    if not positions:
        steps = [body.strip()] if body.strip() else []
    else:
        ends = [start for start, _ in positions[1:]] + [len(body)]
        preamble = body[: positions[0][0]].strip()
        steps = [body[stop:end].strip() for (_, stop), end in zip(positions, ends, strict=True)]
        steps = ([preamble] if preamble else []) + [step for step in steps if step]
    return Parsed([unescape(step) for step in steps], _clean_answer(tail), bool(tag))


def _clean_answer(text: str) -> str:
    # as in a record: an answer that is code keeps the indent of its first line
    return unescape(clean_text(text, keep_indent=True))


def _label_spans(body: str) -> list[tuple[int, int]]:
    """Where the labels of steps 1, 2, ... stand, line break and blank included.

    They are found in sequence, so that "步骤2:" quoted inside another line never opens a step.
    """
    positions: list[tuple[int, int]] = []
    cursor = 0
    while match := re.compile(rf"\n步[骤驟]{len(positions) + 1}[:：] ?").search(body, cursor):
        positions.append(match.span())
        cursor = match.end()
    return positions


def _thought_labels(head: str) -> list[tuple[int, int]]:
    """Where the labels stand in the text before the closing tag.

    The first one may follow the opening tag at once: some tokenizers take the white space around a tag away
    (`rstrip`), others put a blank before each text.
    """
    body = head.lstrip().removeprefix(OPEN_TAG).lstrip()
    # one line break in front, so that a label may open the text; the label itself begins after the break
    shift = len(head) - len(body)
    return [(start + shift, stop + shift) for start, stop in _label_spans("\n" + body)]


def closes(text: str) -> bool:
    """Whether a completion has an answer: its thought is closed, or it has none."""
    return bool(split_completion(text)[1]) or not _THOUGHT_START.match(text)


def step_starts(text: str) -> list[tuple[int, int]]:
    """Where in a completion each step begins: `(character, step id)`, the answer last if there is one.

    The numbers are those of `completion_pieces`: what stands before the first label belongs to step 1.
    """
    head, tag, tail = split_completion(text)
    if not tag and closes(text):
        return [(0, 1)]
    found = [start for start, _ in _thought_labels(head)]
    starts = [(0, 1), *((start, number) for number, start in enumerate(found[1:], start=2))]
    if tag:
        # the lines between tag and answer, also where a tokenizer puts a blank after each special token
        blank = len(_BLANK_LINES.match(tail).group())  # type: ignore[union-attr]
        thought = head.strip().removeprefix(OPEN_TAG).strip()
        # an empty thought is no step: its frame belongs to the answer, as in `completion_pieces`
        starts.append((len(head) + len(tag) + blank, max(len(found), 1) + 1 if thought else 1))
    return starts


def is_labelled(text: str) -> bool:
    """Whether a completion's thought has step labels."""
    return bool(_thought_labels(split_completion(text)[0]))


def numbered_steps(text: str) -> list[str]:
    """The texts of a completion's steps without tags and labels, at the numbers of `step_starts`; `[]` without any.

    Unlike those of `parse` they are not cleaned of empty ones: item k - 1 is what the tokens of step k say. What
    stands before the first label belongs to step 1.
    """
    starts, tag = step_starts(text), split_completion(text)[1]
    if (not tag and closes(text)) or (tag and starts[-1][1] == 1):
        return []
    ends = [start for start, _ in starts[1:]] + ([] if tag else [len(text)])
    steps = []
    for (start, number), end in zip(starts, ends, strict=False):
        piece = text[start:end].strip()
        if number == 1:
            piece = piece.removeprefix(OPEN_TAG)
        if number == len(ends):
            piece = piece.removesuffix(tag)
        label = re.compile(rf"^ *步[骤驟]{number}[:：] ?", re.MULTILINE)
        steps.append(unescape(label.sub("", piece.strip(), count=1).strip()))
    return steps


def template_hash(tokenizer: "PreTrainedTokenizerBase | None", instructions: Mapping[str, str] | None = None) -> str:
    """Hash (12 hex digits) of everything that shapes a prompt; two runs with the same hash prompt alike."""
    probe = {"context": "{context}", "task": "{task}", "steps": ["a", "b"], "answer": "c", "domain": ""}
    parts = list(render(probe, tokenizer).values()) + [f"{k}={v}" for k, v in sorted((instructions or {}).items())]
    return digest("\x1f".join(parts), size=6)
