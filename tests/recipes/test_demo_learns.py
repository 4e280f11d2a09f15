"""The demo's promise, at its full length: chains of thought are learned, and beat bare answers."""

import json
import os
import subprocess
import sys

import pytest


def _few_operations(figures: dict) -> float:
    groups = [figures["by_num_steps"][key] for key in ("2", "3")]
    correct = sum(group["answer_accuracy"] * group["num_records"] for group in groups)
    return correct / sum(group["num_records"] for group in groups)


@pytest.mark.slow
def test_sixty_percent_and_fifteen_points_ahead(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    subprocess.run(
        [sys.executable, "-m", "hf_reason.cli", "demo", "--output_dir", str(tmp_path)], check=True, env=environment
    )
    figures = json.loads((tmp_path / "comparison" / "evaluation.json").read_text())
    cot, direct = _few_operations(figures["CoT"]), _few_operations(figures["direct answers"])
    assert cot >= 0.6
    assert cot >= direct + 0.15
