"""What is counted, and that the dashboard asks for what there is."""

import json
import re
from pathlib import Path

import pytest

pytest.importorskip("prometheus_client")

from prometheus_client.parser import text_string_to_metric_families

from hf_reason.serving.metrics import Metrics

DASHBOARD = Path(__file__).parents[2] / "recipes" / "serve" / "grafana.json"


def values(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = metrics.render()[0].decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_an_answer_and_a_failure():
    metrics = Metrics(process=False)
    metrics.answered(
        "base", arm="B", latency=2.0, first_token=0.5, prompt_tokens=7, completion_tokens=60, reasoning_tokens=40,
        thought_ends=["closed", "forced"],
    )  # fmt: skip
    metrics.answered("base", arm="B", latency=0.01, completion_tokens=60)  # from the cache
    metrics.failed("queue_full", status=429)
    metrics.looked_up("hit")
    found = values(metrics)
    arm = (("arm", "B"), ("model", "base"))
    assert found["hf_reason_requests_total", (*arm, ("status", "200"))] == 2
    assert found["hf_reason_requests_total", (("arm", ""), ("model", ""), ("status", "429"))] == 1
    assert found["hf_reason_errors_total", (("kind", "queue_full"),)] == 1
    assert found["hf_reason_completion_tokens_total", arm] == 120
    assert found["hf_reason_time_to_first_token_seconds_count", arm] == 1
    # 60 tokens in 2 s; what came from the cache has no speed
    assert found["hf_reason_tokens_per_second_sum", arm] == 30
    assert found["hf_reason_tokens_per_second_count", arm] == 1
    assert found["hf_reason_reasoning_tokens_sum", arm] == 20  # of a thought
    assert found["hf_reason_thoughts_total", (arm[0], ("end", "forced"), arm[1])] == 1
    assert found["hf_reason_cache_lookups_total", (("result", "hit"),)] == 1
    assert found["hf_reason_cache_lookups_total", (("result", "miss"),)] == 0  # 0, not missing


def test_two_apps_count_apart():
    one, other = Metrics(process=False), Metrics(process=False)
    one.failed("x")
    assert ("hf_reason_errors_total", (("kind", "x"),)) not in values(other)


def test_unknown_words_are_refused():
    metrics = Metrics(process=False)
    with pytest.raises(ValueError, match="thought_ends has finished; known: closed, forced, open"):
        metrics.answered("base", latency=1.0, thought_ends=["finished"])
    assert not [key for key in values(metrics) if key[0] == "hf_reason_requests_total"]  # nothing half counted
    with pytest.raises(ValueError, match="'found' is not one of hit, miss, bypass"):
        metrics.looked_up("found")


def expressions() -> list[str]:
    content = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    variables = [each["query"]["query"] for each in content["templating"]["list"] if each["type"] == "query"]
    return variables + [target["expr"] for panel in content["panels"] for target in panel["targets"]]


def test_the_dashboard_asks_for_metrics_and_labels_that_there_are():
    known = Metrics(process=False).samples()
    asked = set()
    for expression in expressions():
        names = re.findall(r"\bhf_reason_\w+", expression)
        assert names or "process_resident_memory_bytes" in expression
        for name in names:
            assert name in known, expression
            asked.add(name)
        labels = {label for name in names for label in known[name]}
        used = set(re.findall(r'(\w+)=~?"', expression))
        for by in re.findall(r"by \(([^)]*)\)", expression):
            used |= {label.strip() for label in by.split(",")}
        assert used <= labels, expression
        if "histogram_quantile" in expression:
            assert all(name.endswith("_bucket") for name in names) and "by (le" in expression
        elif any(known[name][-1:] == ("le",) for name in names):
            pytest.fail(f"buckets without a quantile: {expression}")
        # a counter is read by its rate, or by a ratio of totals
        if any(name.endswith("_total") for name in names) and "label_values" not in expression:
            assert "rate(" in expression or " / " in expression, expression
    # and every metric is on it
    families = {re.sub(r"_(?:total|bucket|sum|count)$", "", name) for name in known}
    assert {re.sub(r"_(?:total|bucket|sum|count)$", "", name) for name in asked} == families


def test_the_panels_do_not_overlap():
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    cells = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells) and max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in panels}) == len(panels)
