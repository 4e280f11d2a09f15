"""A chain of prose cut into steps; joining the pieces gives the chain back.

A chain that is numbered is cut at its numbering. Any other is cut at blank lines, headings and discourse
markers at the start of a sentence (首先, 所以, Wait, Therefore, ...); where these give fewer than three pieces,
or leave a very long one, sentences are grouped instead. Code, tables and formulas stay whole. Every scan
is linear in the length of the chain.
"""

import re
from bisect import bisect_right
from itertools import pairwise

from hf_reason.answers.traditional import simplified

from .items import Items, numbered_items
from .labels import Label
from .numbering import strip_numbering, strip_sequence
from .protected_spans import blocks
from .sentences import HEADING, MARKER, SPACE, is_fragment, sentence_starts, weight

__all__ = ["segment_chain", "split_steps", "strip_numbering", "strip_sequence"]

_MIN_PIECES = 3
_GROUP = 200  # bytes
_LONG_PIECE = 1500
_FEW_SENTENCES = 6
_BLANK = re.compile(r"\n[ \t\r]*\n\s*")


def _opens_block(text: str, position: int, spans: list[tuple[int, int]]) -> bool:
    index = bisect_right(spans, (position, len(text))) - 1
    return index >= 0 and spans[index][0] == position


def _ends_with_colon(text: str, position: int) -> bool:
    before = text[max(0, position - 40) : position].rstrip("\n\r\t *_")
    return before.endswith((":", "："))


def _paragraphs(text: str, blocked: bytearray) -> list[int]:
    """Positions after blank lines, in order."""
    return [m.end() for m in _BLANK.finditer(text) if m.end() < len(text) and not blocked[m.end()]]


def _soft_cuts(text: str, markers: list[int], paragraphs: list[int], spans: list[tuple[int, int]]) -> list[int]:
    """Blank lines and discourse markers; what a colon announces and a formula on its own stay where they are."""
    own = [p for p in paragraphs if not _ends_with_colon(text, p) and not _opens_block(text, p, spans)]
    return sorted({*own, *markers})


def _on_new_line(text: str, position: int) -> bool:
    before = text[max(0, position - 16) : position]
    return "\n" in before[len(before.rstrip()) :]


def _drop_fragments(text: str, cuts: list[int], labels: dict[int, list[Label]]) -> list[int]:
    kept: list[int] = []
    for cut in cuts:
        piece = text[kept[-1] if kept else 0 : cut]
        if not piece.strip() or (cut not in labels and is_fragment(piece)):
            continue
        kept.append(cut)
    if kept and kept[-1] not in labels and is_fragment(text[kept[-1] :]):
        kept.pop()
    return kept


def _sentence_cuts(text: str, start: int, end: int, starts: list[int], target: int) -> list[int]:
    """Cuts inside `[start, end)` that group its sentences into pieces of about `target` bytes."""
    inner = starts[bisect_right(starts, start) : bisect_right(starts, end - 1)]
    cuts: list[int] = []
    size = 0
    for left, right in pairwise([start, *inner, end]):
        sentence = weight(text[left:right])
        if left > start and size and (size >= target or size + sentence > 2 * target):
            cuts.append(left)
            size = 0
        size += sentence
    return cuts


def _cuts(text: str) -> tuple[list[int], Items]:
    folded = simplified(text).replace("\u3000", " ").replace("\u00a0", " ")
    spans = blocks(text)
    blocked = bytearray(len(text) + 1)
    for start, end in spans:
        blocked[start + 1 : end] = b"\x01" * (end - start - 1)
    starts = sentence_starts(folded, blocked)
    paragraphs = _paragraphs(text, blocked)
    markers = [start for start in starts if MARKER.match(folded, start) or HEADING.match(text, start)]
    stops = sorted({*paragraphs, *(start for start in markers if _on_new_line(text, start))})
    items = numbered_items(folded, blocked, starts, paragraphs, stops)
    closed, labels = items.closed, items.cuts
    soft = [cut for cut in _soft_cuts(text, markers, paragraphs, spans) if not closed[cut]]
    cuts = _drop_fragments(text, sorted({*soft, *labels}), labels)

    few = len(cuts) + 1 < _MIN_PIECES
    free = [start for start in starts if not closed[start]]
    short = len(free) < _FEW_SENTENCES or weight(text) < _MIN_PIECES * _GROUP
    target = 1 if few and short else _GROUP
    extra: list[int] = []
    for start, end in pairwise([0, *cuts, len(text)]):
        if few or weight(text[start:end]) > _LONG_PIECE:
            extra += _sentence_cuts(text, start, end, free, target)
    if extra:
        cuts = _drop_fragments(text, sorted({*cuts, *extra}), labels)
    return cuts, items


def segment_chain(text: str) -> list[str]:
    """Cut a chain into pieces, one a step; `"".join(segment_chain(text)) == text` for every text.

    White space belongs to the piece in front of it. An empty text has no pieces.
    """
    if not text:
        return []
    cuts, _ = _cuts(text)
    return [text[start:end] for start, end in pairwise([0, *cuts, len(text)])]


def _bare(text: str, start: int, end: int, labels: list[Label]) -> str:
    """`text[start:end]` without the numbers of `labels`."""
    parts = []
    for label in labels:
        parts += [text[start : label.start], label.keep]
        start = label.end
    return "".join([*parts, text[start:end]]).strip()


def split_steps(text: str) -> list[str]:
    """The steps of a chain: its pieces, stripped, without the numbering if it runs in sequence."""
    if not text:
        return []
    cuts, items = _cuts(text)
    steps = []
    for start, end in pairwise([0, *cuts, len(text)]):
        space = SPACE.match(text, start)
        labels = items.cuts.get(space.end() if space else start, [])
        steps.append(_bare(text, start, end, labels))
    return [step for step in steps if step]
