"""Words that follow no argument: a question, or a folder without its argument's name."""

import pytest

from hf_reason.cli.parsing.names import explain_free_words

ASK = ["model_name_or_path", "question"]


@pytest.mark.parametrize("words", [["1+1=?"], ["What", "is", "1+1?"], ["小明有3个苹果"]])
def test_a_question(words) -> None:
    text = " ".join(words)
    assert explain_free_words(words, ASK) == f"{text!r} belongs to no argument: did you mean --question '{text}'?"


def test_a_folder_and_a_file(tmp_path) -> None:
    (tmp_path / "a.jsonl").touch()
    assert f"did you mean --model_name_or_path {tmp_path}?" in explain_free_words([str(tmp_path)], ASK)
    assert "did you mean --dataset_name " in explain_free_words([str(tmp_path / "a.jsonl")], ["dataset_name"])


def test_a_word_of_no_kind() -> None:
    assert explain_free_words(["2"], ["rate"]).endswith("Put the argument's name before it: --name 2")
