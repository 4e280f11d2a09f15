"""`recipes/ask.py` with budgets and votes."""

import os
import subprocess
import sys
from pathlib import Path

RECIPE = Path(__file__).parents[2] / "recipes" / "ask.py"


def test_budgets_and_votes_are_shown(tmp_path, tiny_model, tokenizer):
    tiny_model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    options = ["--max_thought_tokens", "12", "--max_answer_tokens", "4", "--num_votes", "3", "--temperature", "1.0"]
    command = [sys.executable, str(RECIPE), "--model", str(tmp_path), "--question", "1+1=[?]", *options]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), timeout=150)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Question: 1+1=[?]" in done.stdout
    assert "(the thought was closed by force: its tokens were used up)" in done.stdout
    assert " of 3 chains: " in done.stdout
    assert "... (cut: max_answer_tokens)" in done.stdout
