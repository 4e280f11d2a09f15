"""Messages of models that write a thought and an answer without a pair of tags around each."""

import html
import json
import re

_CHANNEL = re.compile(
    r"(?:<\|start\|>\s*assistant\s*)?<\|channel\|>\s*(?P<name>\w+)(?P<to>[^<]*)(?:<\|constrain\|>[^<]*)?<\|message\|>"
    r"(?P<text>.*?)(?P<end><\|(?:end|return|call)\|>|(?=<\|start\|>|<\|channel\|>)|\Z)",
    re.DOTALL,
)
# What is left of gpt-oss's channels when special tokens are skipped.
_BARE_CHANNELS = re.compile(r"analysis(?P<thought>(?![a-z\s]).*?)assistantfinal(?P<answer>.*)", re.DOTALL)
_GRANITE = re.compile(
    r"\s*Here(?: is|'s) my thought process:?\s*(?P<thought>.*?)"
    r"(?:\s*Here(?: is|'s) my response:?\s*(?P<answer>.*)|\Z)",
    re.DOTALL,
)
# Kimi K3; its prompt opens the thought.
_SECTIONS = re.compile(
    r"\s*(?:<\|open\|>think<\|sep\|>)?(?P<thought>.*?)<\|close\|>think(?:<\|sep\|>)?\s*"
    r"(?:<\|open\|>response<\|sep\|>(?P<answer>.*?)(?:<\|close\|>response<\|sep\|>.*)?)?",
    re.DOTALL,
)
# Open WebUI's export
_DETAILS = re.compile(
    r"\s*<details\b[^<>]*\btype=\"reasoning\"[^<>]*>(?P<thought>.*?)(?:</details>(?P<answer>.*)|\Z)", re.DOTALL
)
_SUMMARY = re.compile(r"\A\s*<summary>[^<>\n]*</summary>")
_ESCAPED = re.compile(r"\s*&lt;(?P<name>[\w:]*(?:think|thought|reason)\w*)&gt;.*&lt;/(?P=name)&gt;", re.DOTALL | re.I)


def unescaped(message: str) -> str:
    """A message that a web page has escaped as a whole, its tags included, as it was."""
    return html.unescape(message) if "&lt;" in message and _ESCAPED.match(message) else message


def split_channels(message: str) -> tuple[str, str, bool] | None:
    """Thought, answer, and whether the thought ends, of a message in one of these forms; `None` for any other."""
    if "<|channel|>" in message:
        return _harmony(message)
    if "<|close|>think" in message and (found := _SECTIONS.fullmatch(message)):
        return found["thought"].strip(), (found["answer"] or "").strip(), True
    for pattern in (_BARE_CHANNELS, _GRANITE, _DETAILS):
        found = pattern.fullmatch(message)
        if found is None:
            continue
        thought, answer = found.group("thought"), found.group("answer")
        if pattern is _DETAILS:
            thought = re.sub(r"^(?:> ?|&gt; ?)", "", _SUMMARY.sub("", thought).strip(), flags=re.MULTILINE)
        return thought.strip(), (answer or "").strip(), answer is not None
    return None


def _harmony(message: str) -> tuple[str, str, bool] | None:
    found = list(_CHANNEL.finditer(message))
    if not found or message[: found[0].start()].strip():
        return None
    thoughts, answers = [], []
    for channel in found:
        text = channel.group("text").strip()
        if channel.group("name") == "analysis":
            thoughts.append(text)
        elif called := re.search(r"\bto=(?:functions\.)?([\w.-]+)", channel.group("to")):
            answers.append(f"{called.group(1)}({_compact(text)})")
        else:
            answers.append(text)
    last = found[-1]
    closed = last.group("name") != "analysis" or last.group("end") != ""
    return "\n\n".join(filter(None, thoughts)), "\n\n".join(filter(None, answers)), closed


def _compact(arguments: str) -> str:
    try:
        return json.dumps(json.loads(arguments), ensure_ascii=False)
    except ValueError:
        return arguments
