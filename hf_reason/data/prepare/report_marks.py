"""Texts of the report's page, marked: equations that hold and that do not, and what differs in a pair of duplicates.

Everything that comes from the data is escaped here or by the template; the marks are the only markup.
"""

import difflib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hf_reason.answers.locate import locate_equations

if TYPE_CHECKING:
    from markupsafe import Markup

# A Chinese character, a run of letters and digits, or any other character.
_WORD = re.compile(r"[\u3400-\u9fff]|[^\W_\u3400-\u9fff]+|.", re.DOTALL)
# Words that are compared of each text of a pair; the time grows with their product.
_MOST_WORDS = 500


def marked_step(text: str) -> dict[str, Any]:
    """A step for the page: its `html`, and its `verdict`.

    The verdict is "right" if all its equations hold, "wrong" if one does not, and "" if it has none.
    """
    from markupsafe import Markup, escape

    found = locate_equations(text)
    html, done = Markup(), 0
    for one in found:
        if one.end:
            name = "right" if one.equation.holds else "wrong"
            html += escape(text[done : one.start]) + Markup('<mark class="{}">{}</mark>').format(
                name, text[one.start : one.end]
            )
            done = one.end
    holds = [one.equation.holds for one in found]
    verdict = "" if not holds else "right" if all(holds) else "wrong"
    return {"html": html + escape(text[done:]), "verdict": verdict}


def marked_pair(kept: str, dropped: str) -> tuple["Markup", "Markup"]:
    """Two texts, with what only one of them has marked."""
    left, right = _WORD.findall(kept), _WORD.findall(dropped)
    blocks = difflib.SequenceMatcher(None, left[:_MOST_WORDS], right[:_MOST_WORDS], autojunk=False).get_opcodes()
    return (
        _marked(left, [(start, end) for tag, start, end, _, _ in blocks if tag != "equal"]),
        _marked(right, [(start, end) for tag, _, _, start, end in blocks if tag != "equal"]),
    )


def _marked(words: Sequence[str], parts: Sequence[tuple[int, int]]) -> "Markup":
    from markupsafe import Markup, escape

    html, done = Markup(), 0
    for start, end in parts:
        html += escape("".join(words[done:start]))
        if differs := "".join(words[start:end]):
            html += Markup("<ins>{}</ins>").format(differs)
        done = end
    return html + escape("".join(words[done:]))
