"""A hybrid model from the command line: raw traces with and without chains, training, and both modes measured."""

import json

import pytest
import tiny
from chat_templates import QWEN2_5_TEMPLATE

from hf_reason.cli.main import main
from hf_reason.data.synthetic.word_problems import generate_word_problems
from hf_reason.text import build_prompt, has_switch


@pytest.fixture
def mixed(tmp_path):
    """A raw file: 24 problems with a chain, 12 questions with an answer alone."""
    problems = [row for row in generate_word_problems(90, seed=5) if len(row["steps"]) > 2][:24]
    rows = [{"question": row["context"], "steps": row["steps"], "answer": row["answer"]} for row in problems]
    rows += [{"question": f"第{n}号城市叫什么名字?", "steps": [], "answer": f"叫第{n}城"} for n in range(12)]
    path = tmp_path / "mixed.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.slow
def test_both_modes_from_raw_traces_to_the_table(tmp_path, mixed, tiny_model, tokenizer, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tokenizer.chat_template = QWEN2_5_TEMPLATE
    model = tiny.save_model(tmp_path / "model", tiny_model, tokenizer)
    data = ["--dataset_name", str(mixed), "--output_dir", "data", "--test_size", "0.2"]
    assert main(["prepare", *data, "--keep_non_thinking", "true"]) == 0
    assert "12 of 36 records (33.3%) have no chain" in " ".join(capsys.readouterr().out.split())
    settings = {"model_name_or_path": model, "dataset_name": "data", "max_steps": 1, "eval_max_completion_length": 4}
    arguments = tiny.recipe_arguments(tmp_path, "out", **settings)
    assert main(["sft", *arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "training records" in error and "have no chain" in error and "--add_thinking_switch true" in error
    assert main(["sft", *arguments, "--add_thinking_switch", "true"]) == 0
    from transformers import AutoTokenizer

    saved = AutoTokenizer.from_pretrained("out")
    assert has_switch(saved)
    assert build_prompt({"context": "题"}, saved, thinking=False).endswith("<think>\n\n</think>\n\n")
    capsys.readouterr()
    given = ["--dataset_name", "data", "--max_completion_length", "4", "--output_dir", "report"]
    assert main(["evaluate", "--model_name_or_path", "out", *given, "--thinking", "true", "false"]) == 0
    assert "out (no thinking)" in capsys.readouterr().out
    assert set(json.loads((tmp_path / "report" / "evaluation.json").read_text())) == {
        "out (thinking)",
        "out (no thinking)",
    }
