"""Texts of a record: outer white space goes, the indent of code stays."""

import pytest

from hf_reason.data.record import clean_text, make_record


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("    def f():\n\n        return 1\n", "    def f():\n\n        return 1"),
        ("\n\n\tx = 1\r\n\ty = 2 \n", "\tx = 1\n\ty = 2"),
        ("  if x:\n    y()\n", "  if x:\n    y()"),
        ("    return sorted(x)", "    return sorted(x)"),
        (" 7 ", "7"),
        ("  7", "7"),
        ("    解：设x=3。\n    所以x=3。", "解：设x=3。\n    所以x=3。"),
        ("　　因为3+4=7，\n　　所以是7。", "因为3+4=7，\n　　所以是7。"),
        ("def f():\n    return 1", "def f():\n    return 1"),
        (" \n\t\n", ""),
    ],
)
def test_the_indent_of_code_stays(text, kept):
    record = make_record(text or "q", ["s"], text)
    assert record["answer"] == record["context"] == kept
    assert clean_text(text) == kept.strip()
    again = make_record(record["context"], record["steps"], record["answer"])
    assert again == record
