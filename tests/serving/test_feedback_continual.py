"""`hf-reason continual` learns from a server's feedback file as it is."""

import logging

import pytest
import tiny
from datasets import Dataset, DatasetDict

from hf_reason.cli.main import main
from hf_reason.data.record import make_record
from hf_reason.data.synthetic.word_problems import generate_word_problems
from hf_reason.serving.feedback import FeedbackStore, Served


@pytest.mark.slow
def test_a_round_on_feedback(tmp_path, tiny_model, tokenizer, caplog, capsys):
    problems = generate_word_problems(26)
    rows = [make_record(row["context"], row["steps"], row["answer"], domain="math") for row in problems]
    parts = {"train": rows[:-6], "validation": rows[-6:-3], "test": rows[-3:]}
    DatasetDict({name: Dataset.from_list(part) for name, part in parts.items()}).save_to_disk(tmp_path / "old")
    model = tiny.save_model(tmp_path / "model", tiny_model, tokenizer)
    store = FeedbackStore(tmp_path / "feedback.db")  # open all the while, as a server has it
    for number, row in enumerate(generate_word_problems(30, seed=5, domain="finance")):
        store.remember(Served(f"r{number}", row["context"], row["answer"], tuple(row["steps"]), domain="finance"))
        store.add(f"r{number}", thumbs="down" if number % 3 == 0 else "up", user=f"u{number}")
    settings = {
        "max_steps": 2,
        "max_test_records": 2,
        "eval_max_completion_length": 4,
        "lora_target_modules": ["q_proj", "v_proj"],
        "model_name_or_path": str(model),
        "old_dataset": str(tmp_path / "old"),
        "dataset_name": str(store.path),
        "max_drop": 100,
    }
    with caplog.at_level(logging.WARNING):
        main(["continual", *tiny.recipe_arguments(tmp_path, tmp_path / "round2", **settings)])
    said = capsys.readouterr().out
    assert "feedback.db (raw data): 20 records, " in said and " 0 kept" not in said  # near-duplicates go
    assert "feedback.db: 20 answers with feedback are records; left out: 10 disliked." in caplog.text
    assert (tmp_path / "round2" / "history.json").is_file()
