"""Pain 6, huggingface/open-r1#520, #530: models repeat themselves without end after SFT on chains with loops."""

import pytest
from plain_trl import messages, sft_trainer

from hf_reason.data.clean.filters import FilterConfig, failed_filter
from hf_reason.data.record import RawTrace
from hf_reason.evaluation import evaluate_model

LOOPS = [
    ["等等，我再检查一遍这个结果对不对。"] * 20,  # a step again and again
    ["我需要再检查一遍这个结果。" * 120],  # within a step
    ["先算3+4=7。", "再算7×2=14。"] * 15,  # two steps in turn
    ["Wait, let me check that again, because the result may be wrong. " * 40],
]


def test_plain_trl_trains_on_a_loop(tmp_path, tiny_model, tokenizer, records):
    looping = {**records[0], "steps": records[0]["steps"] + LOOPS[0]}
    trainer = sft_trainer(tmp_path, tiny_model, tokenizer, [{"messages": messages(looping)}], max_length=None)
    assert tokenizer.decode(trainer.train_dataset[0]["input_ids"]).count(LOOPS[0][0]) == 20


@pytest.mark.parametrize("loop", LOOPS, ids=["steps", "within a step", "in turn", "English"])
def test_a_loop_is_filtered_and_an_honest_chain_is_not(records, loop):
    honest = next(row for row in records if len(row["steps"]) >= 3)
    trace = RawTrace(honest["context"], "", answer=honest["answer"])
    config = FilterConfig(skip=("language_drift",))
    assert failed_filter(trace, honest, config) is None
    assert failed_filter(trace, {**honest, "steps": honest["steps"] + loop}, config) == "repetition"


def test_each_evaluation_reports_closed_thoughts_and_repetition(tiny_model, tokenizer, records):
    found = evaluate_model(tiny_model, tokenizer, records[:2], max_completion_length=64, tagged=True, progress=False)
    assert found["close_rate"] == 0.0 and found["repeat_rate"] is not None
