"""Lists and objects that a file holds as text: JSON, Python's repr, and numpy's repr of arrays (pandas' `to_csv`).

Nothing is evaluated: names, calls and expressions are refused.
"""

import ast
import io
import json
import tokenize

_NAMES = {"null": "None", "true": "True", "false": "False", "nan": "None", "NaN": "None", "inf": "None", "NA": "None"}
_SKIPPED = {
    *(tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING, tokenize.ENDMARKER),
    tokenize.COMMENT,
}
_VALUE_ENDS = (tokenize.STRING, tokenize.NUMBER)


def parsed(text: str) -> object:
    """The list or object that a text writes out, or the text itself if it writes none."""
    inner = text.strip()
    if inner[:1] not in ("[", "{", "(") and not inner.startswith("array("):
        return text
    try:
        return json.loads(inner)
    except (ValueError, RecursionError):
        pass
    try:
        # Always by way of numpy's: Python alone would join the texts of `['a' 'b']`.
        value = ast.literal_eval(_as_python(inner))
    except (ValueError, SyntaxError, RecursionError, MemoryError, tokenize.TokenError):
        return text
    return value if isinstance(value, list | dict | tuple) else text


def _as_python(text: str) -> str:
    """numpy's repr as Python's: `array([...], dtype=...)` is a list, and values without commas get them."""
    words: list[str] = []
    calls: list[bool] = []  # for each open bracket: whether it belongs to array(...)
    last, keyword = 0, False  # the kind of the token before; inside of `, dtype=object`
    for token in tokenize.generate_tokens(io.StringIO(text.replace("\n", " ")).readline):
        kind, word = token.type, token.string
        if kind in _SKIPPED:
            continue
        if word == "...":
            raise ValueError("numpy left out a part of a long array")
        if kind == tokenize.NAME and word == "array":
            last = kind
            continue
        if word in ("[", "{", "("):
            called = word == "(" and last == tokenize.NAME and not (words and words[-1].isidentifier())
            calls.append(called)
        if word in ("]", "}", ")") and calls:
            keyword = False
            if calls.pop():
                last = tokenize.NUMBER
                continue
        elif word == "(" and calls and calls[-1]:
            last = 0
            continue
        if calls and calls[-1] and word == ",":
            keyword = True
        if keyword:
            continue
        opens = kind in _VALUE_ENDS or kind == tokenize.NAME or word in ("[", "{")
        if opens and last in _VALUE_ENDS:
            words.append(",")
        words.append(_NAMES.get(word, word) if kind == tokenize.NAME else word)
        ends = word in ("]", "}", ")") or kind in _VALUE_ENDS or kind == tokenize.NAME
        last = tokenize.NUMBER if ends else 0
    return " ".join(words)
