"""A chain of prose cut into steps; joining the pieces gives the chain back.

A chain that is numbered is cut at its numbering. Any other is cut at blank lines, headings and discourse
markers at the start of a sentence (首先, 所以, Wait, Therefore, ...); where these give fewer than three pieces,
or leave a very long one, sentences are grouped instead. Code, tables and formulas stay whole. Every scan
is linear in the length of the chain.
"""

import re
from bisect import bisect_right
from itertools import pairwise

from .numbering import Label, sequences, strip_numbering, strip_sequence
from .protected_spans import blocks

__all__ = ["segment_chain", "split_steps", "strip_numbering", "strip_sequence"]

_MIN_PIECES = 3
_LONG_ITEM = 2000  # characters; a numbered item beyond it is prose that happens to hold a number
_FRAGMENT = 7  # letters, a Chinese one counted twice; "好的。" or "Wait." is the beginning of a step, not one
# UTF-8 bytes, so that a Chinese character weighs about what a Latin word of three letters does.
_GROUP = 200
_LONG_PIECE = 1500
_FEW_SENTENCES = 6

_CHINESE_MARKERS = (
    "首先|其次|再次|再者|再有|然后|接下来|接着|紧接着|随后|之后|下一步|最后|最终|所以|因此|因而|于是|从而|故而|"
    "由此|综上|综合|总之|总的来说|总结|另外|此外|还有|不过|但是|但|然而|等等|等一下|等下|且慢|稍等|嗯|哦|啊|"
    "好的|好，|那么|那(?=[，,我就])|现在|同时|同样|同理|换句话说|也就是说|换一种|换个|或者|也许|不对|再看|再试|再来|再算|"
    "再尝试|再考虑|让我|我再|我们再|假设|如果|回到|根据以上"
)
_ENGLISH_MARKERS = (
    "first|firstly|second|secondly|third|thirdly|fourth|next|then|after that|afterwards|finally|lastly|wait|"
    "hold on|hmm+|oh|but|yet|actually|therefore|thus|hence|so|consequently|as a result|accordingly|"
    "alternatively|however|instead|on the other hand|also|additionally|moreover|furthermore|besides|"
    "in addition|in summary|in conclusion|in short|to summarize|to sum up|overall|okay|ok|alright|all right|"
    "well|now|let me|let's|lets|let us|similarly|likewise|meanwhile|another|maybe|perhaps|putting it"
)
_MARKER = re.compile(rf"(?:\*\*)?(?:(?:{_CHINESE_MARKERS})|(?i:{_ENGLISH_MARKERS})\b(?![-'’]))")
_SENTENCE_END = re.compile(r"[。！？；!?….．;]+[\"'”’」』）)】\]*]*")
_SPACE = re.compile(r"\s*")
_BLANK = re.compile(r"\n[ \t\r]*\n\s*")
_LINE = re.compile(r"\n[ \t\r]*(?=\S)")
_HEADING = re.compile(r"#{1,6}[ \t]+\S|-{3,}[ \t]*$", re.MULTILINE)
_ABBREVIATION = re.compile(
    r"(?:^|[^A-Za-z.])(?:e\.g|i\.e|etc|vs|cf|al|approx|resp|ca|mr|mrs|ms|dr|prof|fig|eq|eqs|no|vol|sec|ch|"
    r"st|jr|sr|inc|ltd|co|dept|a\.m|p\.m|u\.s|w\.r\.t)$",
    re.IGNORECASE,
)
_LIST_NUMBER = re.compile(r"(?:^|\n)[ \t>*#-]*\d{1,3}$")


def _is_han(char: str) -> bool:
    return "\u3400" <= char <= "\u9fff"


def _ends_sentence(text: str, match: re.Match[str]) -> bool:
    """Whether a run of end marks ends a sentence: not in a decimal, an abbreviation or a list's number."""
    run, start, end = match.group(), match.start(), match.end()
    if any(mark in run for mark in "。！？；…"):
        return True
    following = text[end] if end < len(text) else "\n"
    if run[0] in ".．":
        if run[0] == "．" or (start and _is_han(text[start - 1])):
            if not following.isspace() and not _is_han(following):
                return False
        elif not following.isspace():
            return False
        before = text[max(0, start - 12) : start]
        return not (_ABBREVIATION.search(before) or _LIST_NUMBER.search(before))
    return following.isspace() or _is_han(following)


def _sentence_starts(text: str, blocked: bytearray) -> list[int]:
    """Positions where a sentence begins, the first one left out, in order."""
    starts = set()
    for match in _SENTENCE_END.finditer(text):
        if _ends_sentence(text, match):
            space = _SPACE.match(text, match.end())
            starts.add(space.end() if space else match.end())
    for match in _LINE.finditer(text):
        # A line that continues in lower case is a wrapped sentence.
        if not text[match.end()].islower() or text[match.start() - 1 : match.start()] in (*".:;!?。：；！？", "\n"):
            starts.add(match.end())
    return sorted(position for position in starts if 0 < position < len(text) and not blocked[position])


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


def _item_end(text: str, run: list[Label], paragraphs: list[int], stops: list[int]) -> int:
    """Where the last item of a numbered run ends, which nothing in the text says for certain."""
    last = run[-1]
    if bisect_right(paragraphs, run[0].start) < bisect_right(paragraphs, last.start - 1):
        # Its items have paragraphs; so may the last one, unless far too much follows.
        longest = max(b.start - a.start for a, b in pairwise(run))
        return len(text) if len(text) - last.start <= 2 * longest + 200 else last.start
    index = bisect_right(stops, last.end)
    return min(stops[index] if index < len(stops) else len(text), last.start + _LONG_ITEM)


def _number(
    text: str, blocked: bytearray, paragraphs: list[int], stops: list[int]
) -> tuple[dict[int, Label], bytearray]:
    """The labels that open a step, by position, and a mask of the text that their steps keep whole."""
    runs = sequences(text, blocked)
    flush = [run for run in runs if run[0].indent < 2]
    closed = bytearray(len(text) + 1)
    labels: dict[int, Label] = {}
    for run in sorted(flush or runs, key=lambda run: (not run[0].worded, run[0].start)):
        if any(closed[label.start] for label in run):
            continue  # a list inside a step
        labels.update((label.start, label) for label in run)
        ends = [label.start for label in run[1:]] + [_item_end(text, run, paragraphs, stops)]
        for label, end in zip(run, ends, strict=True):
            if end > label.start and (label.worded or end - label.start <= _LONG_ITEM):
                closed[label.start + 1 : end] = b"\x01" * (end - label.start - 1)
    return labels, closed


def _is_fragment(text: str) -> bool:
    if text.lstrip().startswith("#") and "\n" not in text.strip():
        return True  # a heading belongs to what it heads
    letters = "".join(filter(str.isalnum, text)) if len(text) < 100 else "".join(text.split())
    if len(letters) >= _FRAGMENT:
        return False
    return len(letters) + sum(map(_is_han, letters)) < _FRAGMENT and not any(map(str.isdigit, letters))


def _drop_fragments(text: str, cuts: list[int], labels: dict[int, Label]) -> list[int]:
    kept: list[int] = []
    for cut in cuts:
        piece = text[kept[-1] if kept else 0 : cut]
        if not piece.strip() or (cut not in labels and _is_fragment(piece)):
            continue
        kept.append(cut)
    if kept and kept[-1] not in labels and _is_fragment(text[kept[-1] :]):
        kept.pop()
    return kept


def _weight(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _sentence_cuts(text: str, start: int, end: int, starts: list[int], target: int) -> list[int]:
    """Cuts inside `[start, end)` that group its sentences into pieces of about `target` bytes."""
    inner = starts[bisect_right(starts, start) : bisect_right(starts, end - 1)]
    cuts: list[int] = []
    weight = 0
    for left, right in pairwise([start, *inner, end]):
        sentence = _weight(text[left:right])
        if left > start and weight and (weight >= target or weight + sentence > 2 * target):
            cuts.append(left)
            weight = 0
        weight += sentence
    return cuts


def _cuts(text: str) -> tuple[list[int], dict[int, Label]]:
    spans = blocks(text)
    blocked = bytearray(len(text) + 1)
    for start, end in spans:
        blocked[start + 1 : end] = b"\x01" * (end - start - 1)
    starts = _sentence_starts(text, blocked)
    paragraphs = _paragraphs(text, blocked)
    markers = [start for start in starts if _MARKER.match(text, start) or _HEADING.match(text, start)]
    stops = sorted({*paragraphs, *(start for start in markers if _on_new_line(text, start))})
    labels, closed = _number(text, blocked, paragraphs, stops)
    soft = [cut for cut in _soft_cuts(text, markers, paragraphs, spans) if not closed[cut]]
    cuts = _drop_fragments(text, sorted({*soft, *labels}), labels)

    few = len(cuts) + 1 < _MIN_PIECES
    free = [start for start in starts if not closed[start]]
    target = 1 if few and len(free) < _FEW_SENTENCES else _GROUP
    extra: list[int] = []
    for start, end in pairwise([0, *cuts, len(text)]):
        if few or _weight(text[start:end]) > _LONG_PIECE:
            extra += _sentence_cuts(text, start, end, free, target)
    if extra:
        cuts = _drop_fragments(text, sorted({*cuts, *extra}), labels)
    return cuts, labels


def segment_chain(text: str) -> list[str]:
    """Cut a chain into pieces, one a step; `"".join(segment_chain(text)) == text` for every text.

    White space belongs to the piece in front of it. An empty text has no pieces.
    """
    if not text:
        return []
    cuts, _ = _cuts(text)
    return [text[start:end] for start, end in pairwise([0, *cuts, len(text)])]


def split_steps(text: str) -> list[str]:
    """The steps of a chain: its pieces, stripped, without the numbering if it runs in sequence."""
    if not text:
        return []
    cuts, labels = _cuts(text)
    steps = []
    for start, end in pairwise([0, *cuts, len(text)]):
        space = _SPACE.match(text, start)
        label = labels.get(space.end() if space else start)
        steps.append(text[start:end] if label is None else label.keep + text[label.end : end])
    return [step.strip() for step in steps if step.strip()]
