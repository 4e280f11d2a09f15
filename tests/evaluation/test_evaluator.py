"""The evaluator: exact figures with a model that speaks by script, and batching with a real one."""

import json
import os
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from hf_reason.data.record import DataError, make_record
from hf_reason.data.synthetic.distractors import insert_distractor
from hf_reason.evaluation import METRICS, evaluate_model, format_table, load_metrics, metric_path, save_report
from hf_reason.evaluation.aggregate import steps_label
from hf_reason.generation.batching import trim_output
from hf_reason.generation.settings import generation_config, stop_ids
from hf_reason.text import build_prompt, encode_prompt, template_hash

PROBLEMS = [
    make_record("甲有3个,又来4个。翻倍后有几个?", ["3+4=7", "7×2=14"], "14个", domain="math"),
    make_record("乙有9元,用去4元。还剩几元?", ["9-4=5"], "5元", domain="finance"),
    make_record("丙每天走2里,走3天。共几里?", ["2×3=6"], "6里", domain="math"),
    make_record("丁是谁?", ["先看题目", "再想一想", "就知道了"], "丁是学生", domain="general"),
]
OUTPUTS = [
    "<think>\n步骤1: 3+4=7\n步骤2: 7×2=14\n</think>\n\n14个",
    "<think>\n步骤1: 9-4=6\n</think>\n\n6元",
    "<think>\n步骤1: 2+3=5\n步骤2: " + "我再算一遍。" * 40,  # never closed, and it loops
    "<think>\n步骤1: 想到了\n</think>\n\n丁是学生。",
]


class ScriptedModel:
    """Answers each prompt with a known text, then EOS and padding, as `generate` does in a batch."""

    def __init__(self, tokenizer, script):
        self.tokenizer, self.script, self.calls = tokenizer, dict(script), []

    def generate(self, input_ids, attention_mask, generation_config):
        self.calls.append((tuple(input_ids.shape), generation_config))
        eos, pad, limit = self.tokenizer.eos_token_id, generation_config.pad_token_id, generation_config.max_new_tokens
        rows = []
        for ids, mask in zip(input_ids.tolist(), attention_mask.tolist(), strict=True):
            assert mask == sorted(mask), "padding must stand in front"
            prompt = self.tokenizer.decode([token for token, kept in zip(ids, mask, strict=True) if kept])
            text = self.script[prompt]
            rows.append((self.tokenizer(text, add_special_tokens=False)["input_ids"] + [eos])[:limit])
        width = max(map(len, rows))
        padded = [row + [pad] * (width - len(row)) for row in rows]
        return torch.cat([input_ids, torch.tensor(padded, dtype=torch.long).reshape(len(rows), width)], dim=1)


def script(tokenizer, records, outputs):
    return {build_prompt(record, tokenizer): output for record, output in zip(records, outputs, strict=True)}


def run(tokenizer, outputs=OUTPUTS, records=PROBLEMS, **options):
    model = ScriptedModel(tokenizer, script(tokenizer, records, outputs))
    options = {"max_completion_length": 2000, "batch_size": 3, "progress": False, **options}
    return evaluate_model(model, tokenizer, records, **options)


def test_figures_are_those_worked_by_hand(tokenizer):
    results = run(tokenizer, return_predictions=True)
    assert results["answer_accuracy"] == 0.5
    assert results["answer_accuracy_ci"] == pytest.approx([0.1500, 0.8500], abs=1e-4)
    # Checkable: 7 and 14 (right), 9-4=6 (wrong), 2+3=5 (holds, but 5 is not 6).
    assert results["step_accuracy"] == 2 / 4
    assert results["equations_hold"] == 3 / 4
    assert results["checkable_share"] == 4 / 6
    # 7, 14 | 5 (not stated) | 6 (not stated)
    assert results["key_node_coverage"] == 2 / 4
    assert (results["close_rate"], results["repeat_rate"]) == (0.75, 0.25)
    assert results["language_ratio"] == 1.0
    assert results["distractor_resistance"] is results["distracted_accuracy"] is None
    assert results["reasoning_length"]["mean_steps"] == (2 + 1 + 2 + 1) / 4
    assert (results["num_records"], results["num_samples"], results["seed"]) == (4, 1, 0)
    assert results["template_hash"] == template_hash(tokenizer)
    assert results["generation"]["max_new_tokens"] == 2000 and results["generation"]["do_sample"] is False
    predictions = results["predictions"]
    assert [row["text"] for row in predictions] == OUTPUTS
    assert [row["correct"] for row in predictions] == [True, False, False, True]
    assert [row["closed"] for row in predictions] == [True, True, False, True]
    assert predictions[0]["steps"] == ["3+4=7", "7×2=14"] and predictions[0]["answer"] == "14个"
    assert predictions[2]["answer"] == "" and predictions[0]["prompt"] == build_prompt(PROBLEMS[0], tokenizer)


def test_figures_by_domain_and_by_number_of_steps(tokenizer):
    results = run(tokenizer)
    by_domain = {name: row["answer_accuracy"] for name, row in results["by_domain"].items()}
    assert list(by_domain.items()) == [("finance", 0.0), ("math", 0.5), ("general", 1.0)]
    assert results["by_domain"]["math"]["step_accuracy"] == 2 / 3
    by_steps = {name: (row["num_records"], row["answer_accuracy"]) for name, row in results["by_num_steps"].items()}
    assert by_steps == {"1": (2, 0.0), "2": (1, 1.0), "3": (1, 1.0)}
    # No equation in the reference: nothing to cover; none in the output: nothing to check.
    assert results["by_num_steps"]["3"]["key_node_coverage"] is results["by_num_steps"]["3"]["step_accuracy"] is None
    assert [steps_label(number) for number in (0, 10, 11, 20, 21, 99)] == ["0", "10", "11-20", "11-20", "21-40", "41+"]


def test_every_figure_is_what_the_loaded_metric_says(tokenizer):
    """The whole set and every group, from the metric folders and the predictions alone."""
    import evaluate

    metrics = {name: evaluate.load(metric_path(name), keep_in_memory=True) for name in METRICS}
    results = run(tokenizer, return_predictions=True)
    rows = list(zip(PROBLEMS, results.predictions, strict=True))
    groups = {"all": (rows, results)}
    for name, figures in results.by_domain.items():
        groups[name] = ([row for row in rows if row[0]["domain"] == name], figures)
    for name, figures in results.by_num_steps.items():
        groups[name] = ([row for row in rows if str(len(row[0]["steps"])) == name], figures)
    assert len(groups) == 1 + 3 + 3
    for name, (group, figures) in groups.items():
        texts = [prediction["text"] for _, prediction in group]
        answers, steps = [record["answer"] for record, _ in group], [record["steps"] for record, _ in group]
        found = {
            **metrics["answer_accuracy"].compute(predictions=texts, references=answers),
            **metrics["step_accuracy"].compute(predictions=texts, references=steps),
            **metrics["key_node_coverage"].compute(predictions=texts, references=steps),
        }
        lengths = metrics["reasoning_length"].compute(predictions=texts, tokenizer=tokenizer)
        for key in ("answer_accuracy", "answer_accuracy_ci", "step_accuracy", "equations_hold", "checkable_share"):
            assert figures[key] == found[key], (name, key)
        assert figures.key_node_coverage == found["key_node_coverage"], name
        assert (figures.close_rate, figures.repeat_rate) == (lengths["close_rate"], lengths["repeat_rate"]), name
        for key in ("mean_tokens", "median_tokens", "p95_tokens", "mean_steps"):
            assert figures.reasoning_length[key] == lengths[key], (name, key)


def test_the_figures_come_from_the_metrics_that_evaluate_loads(tokenizer, monkeypatch):
    metric = load_metrics()["step_accuracy"]
    plain = type(metric).aggregate
    monkeypatch.setattr(
        type(metric), "aggregate", lambda self, scores: {**plain(self, scores), "step_accuracy": 0.123}
    )
    results = run(tokenizer)
    assert type(metric).__module__.startswith("evaluate_modules.metrics.step_accuracy.")
    assert results.step_accuracy == results.by_domain["math"].step_accuracy == 0.123


def test_caches_that_cannot_be_written_show_before_anything_is_generated(tokenizer, monkeypatch):
    from hf_reason.evaluation import evaluator

    def refuse():
        raise OSError("The metrics cannot be loaded.")

    monkeypatch.setattr(evaluator, "load_metrics", refuse)
    model = ScriptedModel(tokenizer, {})
    with pytest.raises(OSError, match="cannot be loaded"):
        evaluate_model(model, tokenizer, PROBLEMS, progress=False)
    assert model.calls == []


def test_tokens_until_the_answer_are_those_generated(tokenizer):
    results = run(tokenizer, return_predictions=True)
    for prediction, text in zip(results["predictions"], OUTPUTS, strict=True):
        thought = text.partition("</think>")[0] + ("</think>" if prediction["closed"] else "")
        expected = len(tokenizer(thought, add_special_tokens=False)["input_ids"])
        assert prediction["thought_tokens"] == expected
        # EOS and padding are no part of the output.
        assert prediction["num_tokens"] == len(tokenizer(text, add_special_tokens=False)["input_ids"])
    lengths = sorted(row["thought_tokens"] for row in results["predictions"])
    assert results["reasoning_length"]["mean_tokens"] == sum(lengths) / 4
    histogram = results["reasoning_length"]["histogram"]
    assert (sum(histogram["closed"]), sum(histogram["open"])) == (3, 1) and histogram["open"][-1] == 1
    assert histogram["edges"][0] == 0 and histogram["edges"][-1] > lengths[-1]


def test_an_output_cut_by_its_longest_length_is_wrong_and_open(tokenizer):
    results = run(tokenizer, max_completion_length=5, return_predictions=True)
    assert results["close_rate"] == 0 and results["answer_accuracy"] == 0
    assert {row["num_tokens"] for row in results["predictions"]} == {5}


def test_a_prefilled_thought_that_is_cut_is_not_an_answer(tokenizer):
    from chat_templates import R1_PREFILL_TEMPLATE

    tokenizer.chat_template = R1_PREFILL_TEMPLATE
    results = run(tokenizer, ["答案也许是14个", "9-4=5\n</think>\n\n5元", "6里", ""], return_predictions=True)
    assert [row["closed"] for row in results["predictions"]] == [False, True, False, False]
    assert [row["correct"] for row in results["predictions"]] == [False, True, False, False]
    assert results["predictions"][0]["thought_tokens"] == results["predictions"][0]["num_tokens"] > 0


def test_a_direct_answer_is_an_answer_with_no_thought(tokenizer):
    from chat_templates import R1_TEMPLATE

    tokenizer.chat_template = R1_TEMPLATE  # which has no switch, so the prompt closes nothing
    results = run(tokenizer, ["14", "5元", "7", "丁是学生"], thinking=False)
    assert results["answer_accuracy"] == 0.75 and results["close_rate"] == 0.0
    assert results["reasoning_length"]["mean_tokens"] == 0 and results["step_accuracy"] is None
    assert results["key_node_coverage"] == 0


def test_a_hybrid_prompt_that_closes_the_thought_counts_as_closed(tokenizer):
    from chat_templates import HYBRID_TEMPLATE

    tokenizer.chat_template = HYBRID_TEMPLATE
    answers = ["14", "5元", "7", "步骤1: 丁是学生"]
    prompts = {build_prompt(row, tokenizer, thinking=False): text for row, text in zip(PROBLEMS, answers, strict=True)}
    model = ScriptedModel(tokenizer, prompts)
    results = evaluate_model(model, tokenizer, PROBLEMS, thinking=False, progress=False, return_predictions=True)
    assert results["close_rate"] == 1.0 and results["reasoning_length"]["mean_tokens"] == 0
    assert [row["answer"] for row in results["predictions"]] == answers


def test_lengths_are_unknown_where_no_output_ends_its_thought(tokenizer):
    results = run(tokenizer, ["14", "<think>\n步骤1: 5元", "", "丁"])
    assert set(results.reasoning_length.to_dict()) >= {"mean_tokens", "median_tokens", "p95_tokens", "mean_steps"}
    for name in ("mean_tokens", "median_tokens", "p95_tokens", "mean_steps"):
        assert results.reasoning_length[name] is None, name
    table = format_table(results)
    assert "Note on tokens until the answer, mean: no output closed its thought." in table
    assert "Note on steps until the answer, mean: no output closed its thought." in table
    # an empty output does not count as one of length 0
    results = run(tokenizer, [OUTPUTS[0], "", "", ""], return_predictions=True)
    assert results.reasoning_length.mean_tokens == results.predictions[0]["thought_tokens"] > 0
    assert results.reasoning_length.mean_steps == 2


def test_no_breakdown_by_steps_where_no_reference_has_steps(tokenizer, tmp_path):
    results = run(tokenizer, records=[{**row, "steps": []} for row in PROBLEMS])
    assert list(results.by_num_steps) == ["0"]
    assert "by steps of the reference" not in format_table(results) and "by domain" in format_table(results)
    assert "accuracy_by_num_steps" not in save_report(results, tmp_path)


def test_empty_outputs_and_records_without_an_answer(tokenizer):
    records = [*PROBLEMS[:3], make_record("空", ["想"], "", domain="general")]
    results = run(tokenizer, ["", "", "", "x"], records)
    assert results["answer_accuracy"] == 0.0 and results["answer_accuracy_ci"][0] == 0.0
    assert results["by_domain"]["general"]["answer_accuracy"] is None
    assert results["by_domain"]["general"]["answer_accuracy_ci"] is None


def test_distractor_resistance(tokenizer):
    noisy = [insert_distractor(record, 3) for record in PROBLEMS]
    confused = ["<think>\n步骤1: 3+4=7\n</think>\n\n7个", *OUTPUTS[1:]]
    answers = script(tokenizer, PROBLEMS, OUTPUTS) | script(tokenizer, noisy, confused)
    model = ScriptedModel(tokenizer, answers)
    results = evaluate_model(
        model, tokenizer, PROBLEMS, max_completion_length=2000, seed=3, distractors=True, progress=False
    )
    assert (results["answer_accuracy"], results["distracted_accuracy"]) == (0.5, 0.25)
    assert results["distractor_resistance"] == 0.5

    silent = ScriptedModel(tokenizer, dict.fromkeys(answers, "不知道"))
    results = evaluate_model(silent, tokenizer, PROBLEMS, seed=3, distractors=True, progress=False)
    assert (results["distracted_accuracy"], results["distractor_resistance"]) == (0.0, None)


def test_samples_are_averaged_and_the_interval_counts_records(tokenizer):
    class Alternating(ScriptedModel):
        """Right on the even samples of a prompt, wrong on the odd ones."""

        def generate(self, **inputs):
            seen = self.__dict__.setdefault("seen", {})
            for prompt in self.script:
                seen.setdefault(prompt, 0)
            rows = []
            for ids, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True):
                prompt = self.tokenizer.decode(ids[mask.bool()])
                seen[prompt] += 1
                text = "14" if seen[prompt] % 2 else "0"
                rows.append(torch.cat([ids, torch.tensor(self.tokenizer(text.rjust(2))["input_ids"])]))
            return torch.stack(rows)

    model = Alternating(tokenizer, script(tokenizer, PROBLEMS[:1], [""]))
    results = evaluate_model(
        model, tokenizer, PROBLEMS[:1], num_samples=4, batch_size=3, return_predictions=True, progress=False
    )
    assert results["answer_accuracy"] == 0.5 and [row["sample"] for row in results["predictions"]] == [0, 1, 2, 3]
    from hf_reason.evaluation.scoring import wilson_interval

    assert results["answer_accuracy_ci"] == list(wilson_interval(0.5, 1))
    assert results["generation"]["do_sample"] is True


class Voters(ScriptedModel):
    """Gives, as the samples of a prompt, its texts one after the other."""

    def generate(self, input_ids, attention_mask, generation_config):
        seen, rows = self.__dict__.setdefault("seen", {}), []
        for ids, mask in zip(input_ids, attention_mask, strict=True):
            prompt = self.tokenizer.decode(ids[mask.bool()])
            text = self.script[prompt][seen.setdefault(prompt, 0)]
            seen[prompt] += 1
            rows.append(self.tokenizer(text, add_special_tokens=False)["input_ids"] + [self.tokenizer.eos_token_id])
        width = max(map(len, rows))
        padded = [row + [generation_config.pad_token_id] * (width - len(row)) for row in rows]
        return torch.cat([input_ids, torch.tensor(padded)], dim=1)


def test_the_vote_of_the_samples_is_scored(tokenizer):
    """Two of three are right in the first problem, one of three in the second; nobody answers the third."""
    texts = [
        ["0个", "<think>\n步骤1: 7×2=14\n</think>\n\n14个", "14.0"],
        ["5元", "6", "6元"],
        ["<think>\n步骤1: 2×3=6"] * 3,
    ]

    def evaluated(**options):
        model = Voters(tokenizer, script(tokenizer, PROBLEMS[:3], texts))
        return evaluate_model(
            model, tokenizer, PROBLEMS[:3], num_samples=3, progress=False, return_predictions=True, **options
        )

    single, voted = evaluated(), evaluated(vote=True)
    assert single.answer_accuracy == pytest.approx((2 / 3 + 1 / 3 + 0) / 3) and single.vote is False
    assert voted.answer_accuracy == pytest.approx(1 / 3) and voted.vote is True
    assert voted.by_domain["finance"].answer_accuracy == 0 and voted.by_domain["math"].answer_accuracy == 0.5
    for name in ("step_accuracy", "close_rate", "reasoning_length"):
        assert voted[name] == single[name], "all other figures count every output"
    assert [row["correct"] for row in voted.predictions] == [row["correct"] for row in single.predictions]
    assert [row["elected"] for row in voted.predictions] == [
        False,
        True,
        False,
        False,
        True,
        False,
        True,
        False,
        False,
    ]
    assert "elected" not in single.predictions[0]
    with pytest.raises(ValueError, match="vote=True needs several samples, and num_samples is 1"):
        evaluate_model(None, tokenizer, PROBLEMS, vote=True)


def test_the_vote_counts_with_distractors_too(tokenizer):
    noisy = [insert_distractor(PROBLEMS[0], 0)]
    answers = script(tokenizer, PROBLEMS[:1], [["14", "14", "0"]]) | script(tokenizer, noisy, [["0", "14", "0"]])
    model = Voters(tokenizer, answers)
    options = {"num_samples": 3, "progress": False, "distractors": True}
    voted = evaluate_model(model, tokenizer, PROBLEMS[:1], vote=True, **options)
    assert (voted.answer_accuracy, voted.distracted_accuracy, voted.distractor_resistance) == (1.0, 0.0, 0.0)
    single = evaluate_model(Voters(tokenizer, answers), tokenizer, PROBLEMS[:1], **options)
    assert single.distractor_resistance == pytest.approx((1 / 3) / (2 / 3))


def test_a_batch_equals_rows_one_at_a_time(tokenizer, tiny_model, records):
    rows = records[:7]
    assert len({len(encode_prompt(row, tokenizer)) for row in rows}) > 3, "the prompts must differ in length"
    together, alone = (
        evaluate_model(
            tiny_model,
            tokenizer,
            rows,
            max_completion_length=12,
            batch_size=size,
            return_predictions=True,
            progress=False,
        )
        for size in (4, 1)
    )
    for row, batch, single in zip(rows, together["predictions"], alone["predictions"], strict=True):
        ids = torch.tensor([encode_prompt(row, tokenizer)])
        written = tiny_model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
        expected = trim_output(written[0, ids.shape[1] :].tolist(), stop_ids(tiny_model, tokenizer), -1)
        assert batch["text"] == single["text"] == tokenizer.decode(expected)
    together.generation = alone.generation = {}
    assert together == alone


def test_nothing_is_left_changed(tokenizer, tiny_model, records):
    tokenizer.padding_side = "right"
    tiny_model.config.use_cache = False
    tiny_model.train()
    tiny_model.model.layers[0].eval()  # a frozen part that stays in evaluation mode
    before = (tokenizer.padding_side, tokenizer.pad_token, len(tokenizer), tiny_model.generation_config.to_dict())
    random_state = torch.random.get_rng_state()
    evaluate_model(tiny_model, tokenizer, records[:2], max_completion_length=3, temperature=0.7, progress=False)
    after = (tokenizer.padding_side, tokenizer.pad_token, len(tokenizer), tiny_model.generation_config.to_dict())
    assert before == after and tiny_model.config.use_cache is False
    assert tiny_model.training and tiny_model.model.layers[1].training and not tiny_model.model.layers[0].training
    assert torch.equal(random_state, torch.random.get_rng_state())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in tiny_model.parameters())


def test_sampling_follows_the_seed(tokenizer, tiny_model, records):
    def texts(seed):
        options = {"num_samples": 2, "temperature": 1.5, "max_completion_length": 8, "return_predictions": True}
        results = evaluate_model(tiny_model, tokenizer, records[:3], seed=seed, progress=False, **options)
        return [row["text"] for row in results["predictions"]]

    first = texts(1)
    assert texts(1) == first and texts(2) != first
    assert first[0] != first[1], "the samples of one record are all alike"


def test_a_model_of_nans_and_one_without_a_pad_token(tokenizer, tiny_model, records):
    tokenizer.pad_token = None
    tiny_model.generation_config.pad_token_id = None
    tiny_model.config.pad_token_id = None
    results = evaluate_model(tiny_model, tokenizer, records[:3], max_completion_length=4, batch_size=3, progress=False)
    assert results["num_records"] == 3
    with torch.no_grad():
        tiny_model.lm_head.weight.fill_(float("nan"))
    for temperature in (None, 0.9):
        results = evaluate_model(
            tiny_model, tokenizer, records[:3], max_completion_length=4, temperature=temperature, progress=False
        )
        assert results["answer_accuracy"] == 0.0


def test_stop_ids_and_trimming(tokenizer):
    model = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=[90, 91], pad_token_id=None))
    assert stop_ids(model, tokenizer) == [90, 91, tokenizer.eos_token_id]
    assert trim_output([5, 6, 90, 0, 0], [90], 0) == [5, 6]
    assert trim_output([5, 0, 6, 0, 0], [90], 0) == [5, 0, 6]
    assert trim_output([5, 90, 7, 90], [90], 90) == [5]
    assert trim_output([], [90], 0) == []


def test_settings_keep_what_the_model_brings_and_refuse_contradictions(tokenizer, tiny_model):
    tiny_model.generation_config.update(do_sample=True, temperature=0.6, top_p=0.95, repetition_penalty=1.1)
    greedy = generation_config(tiny_model, tokenizer, max_new_tokens=4)
    assert (greedy.do_sample, greedy.temperature, greedy.repetition_penalty) == (False, 1.0, None)
    sampled = generation_config(tiny_model, tokenizer, max_new_tokens=4, num_samples=2)
    assert (sampled.do_sample, sampled.temperature, sampled.top_p) == (True, 0.6, 0.95)  # the model's own
    custom = generation_config(tiny_model, tokenizer, max_new_tokens=4, generation_kwargs={"num_beams": 2})
    assert custom.num_beams == 2
    with pytest.raises(ValueError, match="temperature=0"):
        generation_config(tiny_model, tokenizer, max_new_tokens=4, num_samples=2, temperature=0.0)
    with pytest.raises(ValueError, match="tempratur"):
        generation_config(tiny_model, tokenizer, max_new_tokens=4, generation_kwargs={"tempratur": 2})
    with pytest.raises(ValueError, match="num_samples"):
        generation_config(tiny_model, tokenizer, max_new_tokens=4, generation_kwargs={"num_return_sequences": 2})


def test_settings_in_force_are_reported(tokenizer, tiny_model, records):
    tiny_model.generation_config.update(do_sample=True, temperature=0.6, top_p=0.95)
    sampled = evaluate_model(
        tiny_model, tokenizer, records[:1], max_completion_length=2, num_samples=2, progress=False
    )
    assert (sampled["generation"]["temperature"], sampled["generation"]["top_p"]) == (0.6, 0.95)
    greedy = evaluate_model(tiny_model, tokenizer, records[:1], max_completion_length=2, progress=False)
    assert (greedy["generation"]["do_sample"], greedy["generation"]["temperature"]) == (False, 1.0)


def test_what_cannot_be_evaluated_is_named(tokenizer, tiny_model):
    with pytest.raises(DataError, match="no records"):
        evaluate_model(tiny_model, tokenizer, [])
    with pytest.raises(DataError, match=r"records\[1\].*'steps'"):
        evaluate_model(tiny_model, tokenizer, [PROBLEMS[0], {"context": "甲", "answer": "1"}])
    with pytest.raises(ValueError, match="batch_size is 0"):
        evaluate_model(tiny_model, tokenizer, PROBLEMS, batch_size=0)
    with pytest.raises(TypeError, match="'max_new_tokens', which is called 'max_completion_length' since version 0.2"):
        evaluate_model(tiny_model, tokenizer, PROBLEMS, max_new_tokens=8)
    for change, message in (({"steps": [1]}, "a list of texts"), ({"answer": "\ud83d"}, "not valid Unicode")):
        with pytest.raises(DataError, match=rf"records\[0\].*{message}"):
            evaluate_model(tiny_model, tokenizer, [{**PROBLEMS[0], **change}])


OPTIONS = ({}, {"num_samples": 2, "temperature": 1.3})
WORKER = """
import json, sys
import torch
from transformers import AutoTokenizer, Qwen2ForCausalLM
from hf_reason.evaluation import evaluate_model
from hf_reason.cli.errors import leave_together
folder = sys.argv[1]
model, tokenizer = Qwen2ForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
records, all_options = json.load(open(f"{folder}/task.json"))
results = [evaluate_model(model, tokenizer, records, **options) for options in all_options]
assert torch.distributed.get_world_size() == 2
json.dump([result.to_dict() for result in results], open(f"{folder}/out-{torch.distributed.get_rank()}.json", "w"))
leave_together(0)
"""


def test_two_processes_give_what_one_gives(tokenizer, tiny_model, records, tmp_path):
    shared = {
        "max_completion_length": 6,
        "batch_size": 2,
        "progress": False,
        "return_predictions": True,
        "distractors": True,
    }
    all_options = [shared | options for options in OPTIONS]
    tiny_model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "task.json").write_text(json.dumps([records[:5], all_options]))
    (tmp_path / "worker.py").write_text(WORKER)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    launch = {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen(
            [sys.executable, str(tmp_path / "worker.py"), str(tmp_path)],
            env={**os.environ, **launch, "RANK": rank, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": "2"},
            stderr=subprocess.PIPE,
        )
        for rank in "01"
    ]
    # Five records in batches of two: three batches, so the processes have unlike shares.
    alone = [evaluate_model(tiny_model, tokenizer, records[:5], **options) for options in all_options]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()[-2000:]
    first, second = (json.loads((tmp_path / f"out-{rank}.json").read_text()) for rank in "01")
    assert json.loads(json.dumps([result.to_dict() for result in alone])) == first == second
