"""Parts of a text that must stay in one piece: code, tables and formulas."""

import re
from collections.abc import Iterable

_FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})(.*)$", re.MULTILINE)
_CODE = re.compile(r"`[^`\n]+`")
_MARK = re.compile(
    r"\\(?P<edge>begin|end)[ \t]*\{(?P<name>[A-Za-z]{1,30}\*?)\}|\\(?:.|\Z)|\$\$?|\n[ \t\r]*(?=\n)|\n", re.DOTALL
)
_CLOSES = {r"\)": r"\(", r"\]": r"\["}
_CLAUSE_END = ".!?。！？;；:：,，"
_TABLE_RULE = re.compile(r"[ \t]*\|?[ \t]*:?-{2,}[ \t|:-]*")


def _fences(text: str) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    start, fence = 0, ""
    for match in _FENCE.finditer(text):
        mark, rest = match.group(1), match.group(2)
        if not fence:
            # A line such as ```x``` opens and closes inline code; it is not a block.
            if mark[0] == "~" or "`" not in rest:
                start, fence = match.start(1), mark
        elif mark.startswith(fence) and not rest.strip():
            spans.append((start, match.end()))
            fence = ""
    if fence:  # as in CommonMark, a block that is never closed runs to the end
        spans.append((start, len(text)))
    return spans


def _dollar(text: str, match: re.Match[str], opened: dict[str, int]) -> tuple[int, int] | None:
    """Open or close `$..$` as Pandoc does: no space inside the marks and no digit after the closing one."""
    start, end = match.span()
    before, after = text[start - 1 : start], text[end : end + 1]
    if "$" in opened and not before.isspace() and not after.isdigit():
        return opened.pop("$"), end
    opened.pop("$", None)
    if after and not after.isspace():
        opened["$"] = start
    return None


def _environment(match: re.Match[str], opened: dict[str, list[int]]) -> tuple[int, int] | None:
    """Open or close a LaTeX environment; those of one name may be nested."""
    name = match.group("name")
    if match.group("edge") == "begin":
        opened.setdefault(name, []).append(match.start())
    elif opened.get(name):
        return opened[name].pop(), match.end()
    return None


def _formulas(text: str) -> list[tuple[int, int]]:
    spans: list[tuple[int, int] | None] = []
    opened: dict[str, int] = {}
    environments: dict[str, list[int]] = {}
    for match in _MARK.finditer(text):
        mark, start, end = match.group(), match.start(), match.end()
        if match.group("name"):
            spans.append(_environment(match, environments))
        elif mark in (r"\(", r"\["):
            opened[mark] = start
        elif mark in _CLOSES:
            if _CLOSES[mark] in opened:
                spans.append((opened.pop(_CLOSES[mark]), end))
        elif mark == "$$":
            if "$$" in opened:
                spans.append((opened.pop("$$"), end))
            else:
                opened["$$"] = start
        elif mark == "$":
            if "$$" not in opened:
                spans.append(_dollar(text, match, opened))
        elif mark == "\n":
            # A price at the end of a line is not a formula that continues in the next one.
            if text[start - 1 : start] in _CLAUSE_END:
                opened.pop("$", None)
        elif mark[0] == "\n":
            # A blank line ends what a stray mark may have opened; only brackets of their own kind may hold one.
            for stray in ("$", "$$", r"\("):
                opened.pop(stray, None)
    return [span for span in spans if span is not None]


def _tables(text: str) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    rows: list[tuple[int, int]] = []
    position = 0
    lines = text.splitlines(keepends=True)
    for index, line in enumerate(lines):
        body = line.strip()
        after = lines[index + 1].rstrip() if index + 1 < len(lines) else ""
        bare_header = "|" in after and _TABLE_RULE.fullmatch(after) is not None
        opens = (body.startswith("|") and body.count("|") > 1) or bare_header
        if "|" in body and (rows or opens):
            start = position + len(line) - len(line.lstrip())
            rows.append((start, position + len(line.rstrip())))
        else:
            if len(rows) > 1:
                spans.append((rows[0][0], rows[-1][1]))
            rows = []
        position += len(line)
    if len(rows) > 1:
        spans.append((rows[0][0], rows[-1][1]))
    return spans


def _mask(text: str, spans: list[tuple[int, int]]) -> str:
    """`text` with the spans blanked out, at the same length."""
    parts, position = [], 0
    for start, end in spans:
        parts += [text[position:start], " " * (end - start)]
        position = end
    return "".join([*parts, text[position:]])


def disjoint(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The spans sorted, those that overlap made one."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def blocks(text: str) -> list[tuple[int, int]]:
    """Spans `(start, end)` that must not be cut, sorted and disjoint, in linear time.

    Fenced and inline code, Markdown tables, `$$..$$`, `\\[..\\]`, `\\(..\\)`, `$..$` and LaTeX environments.
    A mark that is never closed protects nothing, except a code fence.
    """
    spans = _fences(text) if "```" in text or "~~~" in text else []
    prose = _mask(text, spans) if spans else text  # a dollar inside a script opens no formula
    if "|" in prose:
        spans += _tables(prose)
    if "$" in prose or "\\" in prose:
        spans += _formulas(prose)
    if "`" in prose:
        spans += [match.span() for match in _CODE.finditer(prose)]
    return disjoint(spans)
