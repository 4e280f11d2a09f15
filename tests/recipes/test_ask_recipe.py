"""`ask` with budgets and votes."""

from tiny import save_model

from hf_reason.cli.main import main
from hf_reason.text.instructions import save_instructions


def test_budgets_and_votes_are_shown(tmp_path, tiny_model, tokenizer, capsys):
    save_model(tmp_path, tiny_model, tokenizer)
    words = ["--model_name_or_path", str(tmp_path), "--question", "1+1=[?]", "--temperature", "1.0", "--use_cpu"]
    budgets = ["--max_thought_tokens", "12", "--max_answer_tokens", "4", "--num_samples", "3", "--vote", "true"]
    assert main(["ask", *words, *budgets]) == 0
    out, err = capsys.readouterr()
    assert "Question: 1+1=[?]" in out and "templates" not in err
    assert "(the thought was closed by force: its tokens were used up)" in out
    assert " of 3 chains: " in out
    assert "... (cut: max_answer_tokens)" in out
    assert main(["ask", *words, *budgets[:6], "--domain", "math"]) == 0
    out, err = capsys.readouterr()
    assert [f"Chain {number} of 3" in out for number in (1, 2, 3)] == [True] * 3 and out.count("Answer:") == 3
    assert "no templates for domains, so --domain math has no effect" in err
    save_instructions(tmp_path, {"math": "仔细计算。"})
    assert main(["ask", *words, "--max_thought_tokens", "6", "--max_answer_tokens", "2"]) == 0
    assert "trained with templates for math; none is used without --domain" in capsys.readouterr().err


def test_errors_are_one_line(tmp_path, tiny_model, capsys, monkeypatch):
    cases = {
        "there is no model. Give --model_name_or_path": [],
        "./nowhere: there is no such folder": ["--model_name_or_path", "./nowhere", "--question", "1+1=?"],
        "vote compares several outputs": ["--model_name_or_path", "x", "--vote", "true"],
        "--num_votes was renamed to --num_samples (with vote: true)": ["--num_votes", "3"],
    }
    tiny_model.save_pretrained(tmp_path)
    cases[f"There are no tokenizer files in {tmp_path}"] = ["--model_name_or_path", str(tmp_path), "--question", "1?"]
    capsys.readouterr()  # the progress bar of saving
    for message, words in cases.items():
        assert main(["ask", *words]) == 2
        err = capsys.readouterr().err
        assert message in err and err.startswith("Error: ") and err.count("\n") == 1, err


def test_tokenizer_may_be_elsewhere_and_an_empty_question_is_refused(
    tmp_path, tiny_model, tokenizer, capsys, monkeypatch
):
    tiny_model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    words = ["--model_name_or_path", str(tmp_path / "model"), "--tokenizer_name_or_path", str(tmp_path / "tokenizer")]
    assert main(["ask", *words, "--question", "1+1=?", "--max_thought_tokens", "6", "--max_answer_tokens", "2"]) == 0
    assert "Answer:" in capsys.readouterr().out
    monkeypatch.setattr("builtins.input", lambda prompt: "  ")
    assert main(["ask", *words]) == 2
    out, err = capsys.readouterr()
    assert "there is no question" in err and "Question: " not in out, "a pipe needs no prompt"
