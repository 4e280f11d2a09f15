"""A trace with HTML, scripts, control or ANSI characters is text: in report, card, page and terminal."""

import json
import logging
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from hf_reason._visible import visible
from hf_reason.data import prepare
from hf_reason.data.synthetic.word_problems import generate_word_problems

HTML = (
    '</td></script><script>canary()</script><img src=x onerror=canary()><a href="javascript:canary()">x</a>{{ 7*7 }}'
)
ANSI = "\x1b[2J\x1b]0;owned\x07\x9b31m\r\x08\u202e\x00"


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.bad: list[str] = []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            if name.startswith("on") or (value or "").lower().startswith("javascript:"):
                self.bad.append(f"{tag} {name}={value}")


def _prepared(folder: Path, hostile: str) -> str:
    """The report of 40 good rows and some that filters take, with a text in every field of some of them."""
    rows = []
    for number, row in enumerate(generate_word_problems(40)):
        text = hostile if number % 5 == 0 else ""
        steps = [*row["steps"], *(["再检查一遍结果对不对。"] * 20 if number == 5 else [])]
        rows.append({
            "context": row["context"] + text, "steps": [f"{step}{text}" for step in steps],
            "answer": row["answer"] + text, "domain": text or "math", "source": text,
        })  # fmt: skip
    rows.append(rows[0])
    (folder / "raw").mkdir(parents=True)
    name = "<img src=x onerror=canary()>.jsonl" if hostile else "rows.jsonl"
    path = folder / "raw" / name
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    prepare(path, folder / "out", progress=False)
    return (folder / "out" / "report.html").read_text(encoding="utf-8")


def test_report_page_runs_nothing_of_the_data(tmp_path):
    pages = [_Page(), _Page()]
    for page, hostile, name in zip(pages, ("", HTML + ANSI), ("good", "bad"), strict=True):
        text = _prepared(tmp_path / name, hostile)
        page.feed(text)
    assert "canary" in text and not pages[1].bad, pages[1].bad
    assert pages[1].tags.count("script") == pages[0].tags.count("script")
    assert (
        "</script><script>canary" not in text
        and "<img src=x" not in text
        and "49" not in re.findall(r"x</a>(..)", text)
    )
    assert "\x1b" not in text and "\x00" not in text


def test_card_shows_names_as_text():
    from hf_reason.evaluation.model_card.build import build_model_card

    card = build_model_card(
        model_name=f"mine{HTML}",
        base_model=None,
        datasets=[f"data{HTML}\n# owned"],
        settings={"note": HTML + "|\n# x"},
    )
    outside = re.sub(r"^```.*?^```", "", card.split("---\n", 2)[2], flags=re.DOTALL | re.MULTILINE)
    outside = re.sub(r"`[^`\n]*`", "", outside)  # Markdown shows code as it is
    page = _Page()
    page.feed(outside)
    assert "script" not in page.tags and "img" not in page.tags and not page.bad, page.tags
    assert "\n# owned" not in card and "\n# x" not in card


def test_control_characters_are_shown():
    assert visible("步骤1:3+4=7\n\t好") == "步骤1:3+4=7\n\t好"
    assert visible(ANSI) == r"\x1b[2J\x1b]0;owned\x07\x9b31m\r\x08\u202e\x00"


def test_a_terminal_gets_no_control_characters(tmp_path, capsys, caplog, monkeypatch):
    """What `ask` prints of a model, an error that quotes the data, and the log of broken rows."""
    from hf_reason.cli.ask import show
    from hf_reason.cli.main import main
    from hf_reason.data.read.sources import read_traces
    from hf_reason.generation import CoTOutput

    monkeypatch.setenv("NO_COLOR", "1")
    fields = {"steps": [f"想{ANSI}"], "answer": f"答{ANSI}"}
    show(f"问{ANSI}", _output(CoTOutput, **fields))
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps({f"column{ANSI}": 1, "messages": ANSI}) + "\n" + '{"input": "' + ANSI + "\n")
    assert main(["prepare", "--dataset_name", str(path), "--output_dir", str(tmp_path / "out")]) == 2
    row = {"input": "1+1", "reasoning_content": "1+1=2", "content": "2"}
    path.write_text(json.dumps(row) + "\n" + json.dumps({"input": 3, f"{ANSI}": ANSI}) + "\n")
    with caplog.at_level(logging.WARNING):
        list(read_traces(path, skip_broken=True))
    printed = capsys.readouterr()
    for text in (printed.out, re.sub(r"\rPreparing: [^\r\n]*", "", printed.err), caplog.text):
        assert text and not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", text), repr(text)


def _output(kind, **fields):
    from types import SimpleNamespace

    try:
        return kind(**fields)
    except TypeError:
        plain = {"chains": [], "votes": [], "forced": False, "ended": True, "closed_by": None}
        return SimpleNamespace(**{**plain, **fields})


@pytest.mark.parametrize(
    "name", ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("]
)
def test_pages_write_text_only(name):
    """The served page and the report make elements and set their text."""
    import hf_reason

    for path in Path(hf_reason.__file__).parent.rglob("*.js"):
        assert name not in path.read_text(encoding="utf-8"), path
