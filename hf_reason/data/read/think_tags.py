"""Split a message into thought and answer by the tags that published traces use (tag_families.py).

A tag counts where it is structure: at the start of the message or of a line, after the end of a sentence, or as the
end of a thought that such a tag began. In code, between quotation marks or in the middle of a sentence it is text.
"""

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from .answer_tags import begins_with_answer, enclosed, marked_answer, visible
from .channels import split_channels, unescaped
from .tag_families import KNOWN, Tag, TagFamilies
from .tag_places import (
    END,
    MENTION,
    hidden_ends,
    inside_line,
    mentions,
    place_of_end,
    quoted,
    starts_thought,
    without_outer_space,
)

_TEXT = re.compile(r"\S")


@dataclass(frozen=True)
class Thought:
    """The parts of a message.

    Attributes:
        thought: The reasoning without its tags; empty if there is none.
        answer: What a reader of the message sees.
        closed: `False` if a thought begins and never ends.
    """

    thought: str
    answer: str
    closed: bool


@dataclass(frozen=True)
class Block:
    """A thought in a text: from `start` to `end`, with the tags around it from `outer` to `rest`."""

    outer: int
    start: int
    end: int
    rest: int
    closed: bool = True


def thought_blocks(text: str, families: TagFamilies = KNOWN) -> list[Block]:
    """The thoughts in a text, in order."""
    tags = families.find(text)
    if not tags:
        return []
    spoken = mentions(text, tags)
    found = _Structure(
        text,
        [tag for tag in tags if not tag.closes and tag not in spoken and starts_thought(text, tag)],
        [tag for tag in tags if tag.closes and tag not in spoken],
    )
    blocks = found.prefilled(tags)
    opening = found.first_opening(blocks[-1].rest if blocks else 0)
    while opening < len(found.openings):
        end = found.first_end(found.openings[opening].end)
        if end == len(found.ends):
            return blocks + _last_block(text, tags, found.openings[opening:])
        blocks.append(found.block(opening, end))
        opening = found.first_opening(blocks[-1].rest)
    return blocks


@dataclass(frozen=True)
class _Structure:
    """The tags of a text that may begin or end a thought, in order."""

    text: str
    openings: list[Tag]
    ends: list[Tag]

    def first_opening(self, position: int) -> int:
        return bisect_left(self.openings, position, key=_start)

    def first_end(self, position: int) -> int:
        return bisect_left(self.ends, position, key=_start)

    def prefilled(self, tags: Sequence[Tag]) -> list[Block]:
        """The thought whose opening tag was in the prompt: it ends in front of any that begins in the text."""
        until = self.openings[0].start if self.openings else len(self.text)
        own = [tag for tag in self.ends[: self.first_end(until)] if place_of_end(self.text, tag) > MENTION]
        if not own and not self.openings:
            own = hidden_ends(self.text, tags)
        return [self.ended(0, 0, _end_of(self.text, own))] if own else []

    def block(self, opening: int, end: int) -> Block:
        """The thought that an opening tag begins. Its end comes before an opening tag that follows an end."""
        first = self.openings[opening]
        following = self.first_opening(self.ends[end].start)
        until = self.openings[following].start if following < len(self.openings) else len(self.text)
        own = self.ends[end : self.first_end(until)]
        return self.ended(
            first.start, first.end, _end_of(self.text, [tag for tag in own if tag.family == first.family] or own)
        )

    def ended(self, outer: int, start: int, end: Tag) -> Block:
        rest, index = end.end, self.first_end(end.end)
        while index < len(self.ends) and not self.text[rest : self.ends[index].start].strip():
            rest, index = self.ends[index].end, index + 1  # a doubled tag counts as one
        return Block(outer, start, end.start, rest)


def _start(tag: Tag) -> int:
    return tag.start


def _last_block(text: str, tags: Sequence[Tag], openings: Sequence[Tag]) -> list[Block]:
    """The thought of the first opening tag behind which only tags in code or mentions follow, or no tags."""
    outside = quoted(text, tags)
    closing = [tag for tag in tags if tag.closes]
    # A tag that looks like a mention is better than none: the thought has to end somewhere.
    for late in (hidden_ends(text, tags), [tag for tag in closing if tag not in outside][-1:]):
        if late := [tag for tag in late if tag.start >= openings[0].end]:
            return [_Structure(text, [], closing).ended(openings[0].start, openings[0].end, _end_of(text, late))]
    unclosed = next((tag for tag in openings if not inside_line(text, tag)), None)
    return [Block(unclosed.start, unclosed.end, len(text), len(text), closed=False)] if unclosed else []


def _end_of(text: str, ends: Sequence[Tag]) -> Tag:
    """The tag that ends a thought: the one whose place says so most clearly.

    On lines of their own the last one counts, because a thought may continue after it has named its own end;
    otherwise the first.
    """
    ends = [
        ends[0],
        # not one that only doubles the tag before, or the end of the message
        *(tag for last, tag in pairwise(ends) if _TEXT.search(text, tag.end) and text[last.end : tag.start].strip()),
    ]
    places = [place_of_end(text, tag) for tag in ends]
    clearest = max(places)
    best = [tag for tag, place in zip(ends, places, strict=True) if place == clearest]
    return best[-1] if clearest == END else best[0]


def _inner(thought: str) -> str:
    """A thought without tags that are structure: doubled ones, or those of a thought that began again."""
    tags = KNOWN.find(thought)
    spoken = mentions(thought, tags) if tags else set()
    parts, position = [], 0
    for tag in tags:
        structural = place_of_end(thought, tag) == END if tag.closes else not inside_line(thought, tag)
        if structural and tag not in spoken:
            parts.append(thought[position : tag.start])
            position = tag.end
    return "\n\n".join(part.strip() for part in [*parts, thought[position:]] if part.strip())


def split_thought(message: str) -> Thought:
    """Split a message into thought and answer; no tag of either is left in them, unless the text speaks of tags.

    A closing tag without an opening one ends a thought whose opening tag was in the prompt. Doubled tags
    count as one. Text in front of a thought belongs to the answer.
    """
    message = unescaped(message)
    if (parts := split_channels(message)) is not None:
        return Thought(*parts)
    blocks = thought_blocks(message)
    said, thoughts, position = [], [], 0
    for block in blocks:
        said.append(message[position : block.outer])
        thoughts.append(message[block.start : block.end])
        position = block.rest
    said.append(message[position:])
    answer = "\n\n".join(part.strip("\n") if blocks else part for part in said if part.strip())
    closed = not blocks or blocks[-1].closed
    if not closed and (tagged := marked_answer(thoughts[-1])):
        # The closing tag is missing, but the answer is marked.
        answer, thoughts[-1] = thoughts[-1][tagged.start() :], thoughts[-1][: tagged.start()]
    thought = "\n\n".join(filter(None, map(_inner, thoughts)))
    marked = blocks or begins_with_answer(answer)
    return Thought(thought, visible(_without_last_tag(answer)) if marked else without_outer_space(answer), closed)


def _without_last_tag(answer: str) -> str:
    """An answer without the closing tag of a thought that a model wrote once more at the end."""
    tags = KNOWN.find(answer)
    if tags and tags[-1].closes and not answer[tags[-1].end :].strip() and tags[-1] not in mentions(answer, tags):
        return answer[: tags[-1].start]
    return answer


def _from_column(content: str, thought: str) -> str:
    """The answer of a column of its own without what is no answer: a thought in front of it, tags around all of it."""
    position = 0
    for block in thought_blocks(content):
        own, tagged = content[block.start : block.end].strip(), block.start > block.outer
        if content[position : block.outer].strip() or not (tagged or _ends_on_line(content, block) or own in thought):
            break
        if not content[block.rest :].strip():
            # A stray tag at the end of an answer, or nothing but a thought.
            return "" if tagged and own in thought else visible(content[block.start : block.end])
        position = block.rest
    return visible(content[position:]) if position else enclosed(content)


def _ends_on_line(text: str, block: Block) -> bool:
    return place_of_end(text, Tag(block.end, block.rest, "", True)) == END


def _thought_from_column(thought: str, answer: str) -> str:
    """A thought from a column of its own without the tags that enclose it."""
    block = next(iter(thought_blocks(thought)), None)
    if block is None or thought[: block.outer].strip():
        return thought.strip()
    if block.start == block.outer and not _ends_on_line(thought, block):
        return thought.strip()
    parts = split_thought(thought)
    rest = "" if parts.answer == answer else parts.answer
    return f"{parts.thought}\n\n{rest}".strip()


def join_thought(thought: str, content: str) -> Thought:
    """Thought and answer from separate columns, which are taken as they are.

    Only tags that enclose a column, and a thought in tags in front of the answer, are removed. Without a thought the
    content is split by `split_thought`.
    """
    if not thought.strip():
        return split_thought(content)
    answer = _from_column(content, thought)
    return Thought(_thought_from_column(thought, answer), answer, True)


def without_prefill(prompt: str) -> str:
    """A prompt without the opening tag that a chat template left at its end."""
    tags = KNOWN.find(prompt)
    if not tags or tags[-1].closes or prompt[tags[-1].end :].strip() or tags[-1] in quoted(prompt, tags):
        return prompt
    last = tags[-1]
    prefilled = prompt[last.end :].startswith("\n") or starts_thought(prompt, last, colon=True)
    return prompt[: last.start] if prefilled else prompt
