"""The page of a preparation's report: one file without outside references, in which every text of the data is escaped.

No script but the page's own can run: the page says its hash, and nothing else is allowed (`Content-Security-Policy`).
"""

import base64
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hf_reason._visible import visible
from hf_reason.data.clean.splits import SPLITS

from .counts import SUSPICIOUS
from .report_marks import marked_pair, marked_step
from .report_sample import ReportSample

# Reasons whose names do not say it, and all of them in Chinese.
LABELS = {
    "unreadable": "row that could not be read",
    "broken_image": "with an image that is missing or cannot be read",
    "contaminated": "occurs in an evaluation file",
    "exact_duplicate": "exact duplicate",
    "near_duplicate": "near duplicate",
    SUSPICIOUS: "suspicious: the answer contradicts its chain (kept)",
}
CHINESE = {
    "unreadable": "无法读取的行",
    "broken_image": "图片缺失或无法读取",
    "empty_context": "没有题目",
    "empty_thought": "没有思维链",
    "unclosed_thought": "思维链没有结束",
    "truncated": "生成被截断",
    "missing_answer": "没有答案",
    "wrong_answer": "答案与参考答案矛盾",
    "few_steps": "步骤太少",
    "repetition": "重复循环",
    "too_short": "太短",
    "too_long": "太长",
    "language": "其他语言",
    "language_drift": "语言漂移",
    "control_tokens": "混入控制符",
    "contaminated": "出现在评测集中",
    "exact_duplicate": "完全重复",
    "near_duplicate": "近似重复",
    SUSPICIOUS: "可疑：答案与思维链矛盾（已保留）",
}
_MEASURES = {
    "context": ("problem", "题目"),
    "chain": ("chain", "思维链"),
    "answer": ("answer", "答案"),
    "steps": ("steps", "步骤数"),
    "all": ("together", "合计"),
}
_FOLDER = Path(__file__).parent


def label(reason: str) -> str:
    """A drop reason in words."""
    return LABELS.get(reason, reason.replace("_", " "))


def report_html(
    report: Mapping[str, Any],
    picture: bytes,
    examples: Mapping[str, list[dict[str, str]]] | None = None,
    sample: ReportSample | None = None,
) -> str:
    """The page.

    Args:
        report: What `build_report` gives.
        picture: The PNG of `draw_report`.
        examples: Of dropped and suspicious traces, by reason; default: those of the report.
        sample: Records and pairs of duplicates that are shown; default: none.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_shown
    )
    script, style, source = (
        (_FOLDER / f"report.{kind}").read_text(encoding="utf-8") for kind in ("js", "css", "html.jinja")
    )
    found = {} if sample is None else sample.pairs
    pairs = {name: [_pair(*pair) for pair in some] for name, some in found.items()}
    records = [] if sample is None else [_card(record) for record in sample.records]
    return environment.from_string(source).render(
        report=report,
        funnel=list(_funnel(report["counts"])),
        suspicious=SUSPICIOUS,
        label=label,
        chinese=CHINESE.get,
        measures=_MEASURES,
        splits=[name for name in SPLITS if name in report["splits"]],
        picture=base64.b64encode(picture).decode(),
        examples=report["examples"] if examples is None else examples,
        pairs=pairs,
        records=records,
        choices={name: sorted({record[name] for record in records}) for name in ("domain", "language")},
        script=Markup(script),
        style=Markup(style),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _funnel(counts: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Each filter in order: how many came to it, how many it removed, and how many were left."""
    left = counts["in"]
    for reason, removed in counts["filters"].items():
        yield {"reason": reason, "before": left, "removed": removed, "after": left - removed}
        left -= removed


def _card(record: Mapping[str, Any]) -> dict[str, Any]:
    steps = [marked_step(step) for step in record["steps"]]
    verdicts = {step["verdict"] for step in steps}
    worst = "wrong" if "wrong" in verdicts else "right" if "right" in verdicts else "none"
    return {**record, "steps": steps, "verdict": worst, "mode": "chain" if record["count"] else "direct"}


def _pair(kept: Mapping[str, Any], dropped: Mapping[str, Any]) -> dict[str, Any]:
    texts = {name: marked_pair(_text(kept, name), _text(dropped, name)) for name in ("context", "steps", "answer")}
    return {"sources": (kept["source"], dropped["source"]), "texts": texts}


def _text(record: Mapping[str, Any], name: str) -> str:
    if name == "context":
        return "\n".join(filter(None, (record["context"], record["task"])))
    return "\n".join(record[name]) if name == "steps" else str(record[name])


def _shown(value: Any) -> Any:
    """Control characters of the data as their escapes: one may turn the direction of the page around."""
    return type(value)(visible(value)) if isinstance(value, str) else value
