"""Pain 20, vllm-project/llm-compressor#2680, huggingface/open-r1#96: thoughts never close, Chinese drifts away."""

import pytest

from hf_reason.compression import GateError, compare, reference_chains, text_windows
from hf_reason.compression.gate import Measured, check
from hf_reason.data.clean.filters import FilterConfig, failed_filter
from hf_reason.data.record import RawTrace, make_record
from hf_reason.evaluation import EvaluationResult, evaluate_model
from hf_reason.rewards import language_reward

CHINESE = "我们先算出粉笔一共有多少支，再把它们平均分给每一个年级，注意单位是支而不是盒。"
ENGLISH = "Wait, let me think about this again because the number of grades may be different here."


def test_calibration_on_text_has_no_end_of_a_thought_and_on_chains_each_has_one(tmp_path, tokenizer, records):
    """What the plain tools calibrate on never shows the quantiser how a thought ends."""
    book = tmp_path / "book.txt"
    book.write_text("从前有一座山,山上有一座庙。" * 60, encoding="utf-8")
    plain = text_windows(book, tokenizer, 4, max_length=64)
    chains = reference_chains(records, tokenizer, 4, max_length=400)
    assert not any("</think>" in tokenizer.decode(row["input_ids"]) for row in plain.examples)
    assert all("</think>" in tokenizer.decode(row["input_ids"]) for row in chains.examples)
    assert all(row["input_ids"][-1] == tokenizer.eos_token_id for row in chains.examples)


@pytest.mark.parametrize("close_rate", [None, 0.0, 0.9])
def test_a_model_that_stops_closing_its_thoughts_is_refused(close_rate):
    rows = [{"id": str(i), "sample": 0, "reference": "1", "correct": True, "steps": ["1+1=2"]} for i in range(20)]

    def measured(rate):
        return Measured(EvaluationResult(answer_accuracy=1.0, close_rate=rate, step_accuracy=1.0, predictions=rows))

    check(compare(measured(1.0), measured(0.96)), "out")
    with pytest.raises(GateError, match="of the thoughts are closed"):
        check(compare(measured(1.0), measured(close_rate)), "out")


def test_drift_is_a_filter_a_reward_and_a_metric(tiny_model, tokenizer, records):
    context = "学校买来36盒粉笔，每盒12支，平均分给4个年级，每个年级分到多少支粉笔？"
    config = FilterConfig(skip=("repetition",))
    for steps, verdict in (([CHINESE] * 4, None), ([CHINESE, CHINESE, ENGLISH * 4], "language_drift")):
        record = make_record(context, steps, "108支")
        assert failed_filter(RawTrace(context, "", answer="108支"), record, config) == verdict
        completion = "\n".join(["<think>", *steps, "</think>", "", "108支"])
        [reward] = language_reward([completion], context=[context])
        assert (reward == 1.0) == (verdict is None)
    found = evaluate_model(tiny_model, tokenizer, records[:2], max_completion_length=8, progress=False)
    assert "language_ratio" in found.to_dict()
