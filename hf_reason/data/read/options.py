"""The options of a question, from a column of their own or one for each, and the letter of the right one."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .columns import Values
from .literals import parsed

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_NUMBERS = "123456789"
_LISTS = ("options", "choices", "candidates", "endings", "mc_options")
_TEXT_KEYS = ("text", "content", "value", "option", "option_text")
_LABEL_KEYS = ("label", "id", "key", "letter", "option_label", "idx")
# A column for each option: A, option_a, Option A, choiceB, opa, 选项A, option1.
_COLUMN = re.compile(r"(?:(?i:options?|choice|opt|op|选项|選項)[_ -]?([A-Ja-j]|[1-9])|([A-J]))")
_LETTER = re.compile(r"\s*[A-Ja-j]\s*")
_FIRST_LABEL = re.compile(r"(?<![A-Za-z0-9])[A1]\s*[)）.．、:：]")
_LABELLED_TEXT = re.compile(r"\A\s*[(（]?([A-Za-z]|\d)[)）.．、:：]\s*")
_LABELLED = re.compile(_LABELLED_TEXT.pattern + r"\S")


def options_of(row: Values) -> list[tuple[str, str]]:
    """Label and text of each option of a row, in order; the label is empty where the text begins with one."""
    for name in _LISTS:
        if found := _listed(row.get(name)):
            return found
    columns = {(match[1] or match[2]).upper(): row[name] for name in row if (match := _COLUMN.fullmatch(str(name)))}
    for labels in (LETTERS, _NUMBERS):
        there = [label for label in labels if _is_text(columns.get(label))]
        if len(there) > 1 and there == list(labels[: len(there)]):
            # 选项1, 选项2 with the answer B
            lettered = labels == _NUMBERS and any(isinstance(v, str) and _LETTER.fullmatch(v) for v in row.values())
            shown = LETTERS if lettered else there
            return [(shown[place], str(columns[label]).strip()) for place, label in enumerate(there)]
    return []


def _is_text(value: object) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool) and str(value).strip() != ""


def _listed(options: Any) -> list[tuple[str, str]]:
    """Options of a list of texts or objects, an object by letters, an object of lists, or a text of labelled lines."""
    if isinstance(options, str):
        options = found if isinstance(found := parsed(options), list | dict) else _lines(options)
    if isinstance(options, Mapping):
        texts = next((options[key] for key in _TEXT_KEYS if isinstance(options.get(key), Sequence)), None)
        labels = next((options[key] for key in _LABEL_KEYS if isinstance(options.get(key), Sequence)), None)
        if isinstance(texts, list):
            return _labelled(labels if isinstance(labels, list) and len(labels) == len(texts) else None, texts)
        pairs = [(key, value) for key, value in options.items() if re.fullmatch(r"[A-Za-z]|\d", str(key))]
        return _labelled([key for key, _ in pairs], [value for _, value in pairs]) if len(pairs) > 1 else []
    if not isinstance(options, list) or not options:
        return []
    if all(isinstance(option, Mapping) for option in options):
        texts = [next((option[key] for key in _TEXT_KEYS if option.get(key) is not None), None) for option in options]
        marks = [next((option[key] for key in _LABEL_KEYS if option.get(key) is not None), None) for option in options]
        return _labelled(None if None in marks else marks, texts)
    return _labelled(None, options)


def _lines(text: str) -> list[str]:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines if len(lines) > 1 and all(map(_LABELLED.match, lines)) else []


def _labelled(labels: Sequence[object] | None, texts: Sequence[object]) -> list[tuple[str, str]]:
    if not texts or len(texts) > len(LETTERS) or not all(map(_is_text, texts)):
        return []
    if labels is None:
        own = [_LABELLED.match(str(text)) for text in texts]
        if all(own) and [found[1].upper() for found in own if found] == list(LETTERS[: len(texts)]):
            labels = [""] * len(texts)
        else:
            labels = LETTERS[: len(texts)]
    return [(str(label).strip(), str(text).strip()) for label, text in zip(labels, texts, strict=True)]


def with_options(problem: str, options: list[tuple[str, str]]) -> str:
    """A problem with its options below it, one a line, unless it has them already."""
    if not options or (_FIRST_LABEL.search(problem) and all(text in problem for _, text in options)):
        return problem
    return problem + "".join(f"\n{label}. {text}" if label else f"\n{text}" for label, text in options)


def label_at(options: list[tuple[str, str]], index: object) -> str | None:
    """The label of the option at an index from 0, as MMLU has it; `None` for anything else."""
    if not isinstance(index, int) or isinstance(index, bool):
        return None
    if any(label == str(index) for label, _ in options):  # numbered options count as they are numbered
        return str(index)
    if not 0 <= index < len(options):
        return None
    return options[index][0] or LETTERS[index]


def label_of(options: list[tuple[str, str]], answer: str) -> str | None:
    """The label of the one option whose text is the answer; `None` if it is none of them, or more than one."""
    plain = [text if label else _LABELLED_TEXT.sub("", text) for label, text in options]
    found = [index for index, text in enumerate(plain) if text == answer.strip()]
    return label_at(options, found[0]) if len(found) == 1 else None
