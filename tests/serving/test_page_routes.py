"""The page's files: what is given out, to whom, and with which headers."""

import re
from html.parser import HTMLParser
from importlib.resources import files

import pytest
from scripted_engine import ScriptedEngine
from starlette.testclient import TestClient

from hf_reason.serving.app import create_app
from hf_reason.serving.keys import ApiKeys, hashed
from hf_reason.serving.metrics import Metrics
from hf_reason.serving.settings import ServeSettings

STATIC = files("hf_reason.serving.page") / "static"
PARTS = sorted(part.name for part in STATIC.iterdir())
SOURCES = {name: (STATIC / name).read_text(encoding="utf-8") for name in PARTS}


@pytest.fixture(scope="module")
def http():
    app = create_app(
        ScriptedEngine({"m": (["1+1=2"], "2")}),
        ServeSettings(max_thought_tokens=77, max_requests_per_minute=5),
        keys=ApiKeys({hashed("sk-1"): "alice"}),
        metrics=Metrics(process=False),
    )
    with TestClient(app) as client:
        yield client


def test_the_page_and_its_parts_need_no_key_and_everything_else_does(http):
    for path in ("/", "/page/settings.json", *(f"/page/{name}" for name in PARTS)):
        answer = http.get(path)
        policy = answer.headers["content-security-policy"]
        assert answer.status_code == 200, path
        assert "default-src 'self';" in policy and "require-trusted-types-for 'script'" in policy
        assert "unsafe" not in policy and answer.headers["x-content-type-options"] == "nosniff"
    for path in ("/v1/models", "/metrics", "/openapi.json", "/pages", "/page"):
        assert http.get(path).status_code == 401, path
    assert http.get("/page/settings.json").json() == {
        **{"max_thought_tokens": 77, "max_answer_tokens": 512, "needs_key": True, "feedback": False}
    }


@pytest.mark.parametrize("path", ["nothing.js", "..%2froutes.py", "..%2f..%2fapp.py", "%2e%2e/app.py", "__init__.py"])
def test_only_the_parts_are_given_out(http, path):
    answer = http.get(f"/page/{path}", headers={"Authorization": "Bearer sk-1"})
    assert answer.status_code == 404 and answer.json()["error"]["code"] == "unknown_url"


def test_kinds_of_the_parts(http):
    kinds = {name.rpartition(".")[2]: http.get(f"/page/{name}").headers["content-type"] for name in PARTS}
    assert kinds == {
        "css": "text/css; charset=utf-8",
        "html": "text/html; charset=utf-8",
        "js": "text/javascript; charset=utf-8",
        "svg": "image/svg+xml; charset=utf-8",
    }


def test_nothing_comes_from_elsewhere_and_no_text_becomes_html():
    for name, source in SOURCES.items():
        found = set(re.findall(r"(?:https?:)?//[\w.]+\.\w+", source)) - {"http://www.w3.org"}
        assert not found, (name, found)
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|@import", source), name
    # neither inline scripts nor inline styles, which the policy forbids
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon\w+=", SOURCES["index.html"])
    linked = re.findall(r'(?:src|href)="page/([^"]+)"|from "\./([^"]+)"', "".join(SOURCES.values()))
    assert {a or b for a, b in linked} == set(PARTS) - {"index.html"}


class _Labels(HTMLParser):
    """Ids, labelled ids, controls, and the texts that elements ask for."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.named: set[str] = set()
        self.words: set[str] = set()
        self.controls: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids += [given["id"] or ""] if "id" in given else []
        self.named |= {given["for"] or ""} if "for" in given and tag == "label" else set()
        self.words |= {given[name] or "" for name in ("data-text", "data-label") if name in given}
        if tag in ("input", "select", "textarea") and "id" in given:
            self.controls.append(given["id"] or "")


def test_every_control_has_a_label_and_every_text_both_languages():
    page = _Labels()
    page.feed(SOURCES["index.html"])
    assert len(page.ids) == len(set(page.ids)) and set(page.controls) <= page.named
    english, chinese = SOURCES["words.js"].split("  zh: {")
    names = [set(re.findall(r"^    (\w+):", part, re.MULTILINE)) for part in (english, chinese)]
    assert names[0] == names[1]
    used = page.words | set(re.findall(r'\b(?:say\(.*?, |word\(|add\()"(\w+)"', "".join(SOURCES.values())))
    used |= {"right", "wrong"}
    assert used <= names[0], used - names[0]
