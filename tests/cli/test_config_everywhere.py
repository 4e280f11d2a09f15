"""Commands that train nothing, too, read `--config`, and name the file in their errors."""

import pytest

from hf_reason.cli.main import main


@pytest.mark.parametrize("command", ["augment", "cache-teacher", "evaluate", "generate-traces", "prepare"])
def test_a_command_reads_a_yaml(tmp_path, capsys, command):
    path = tmp_path / "settings.yaml"
    path.write_text("qwertz: 1\n", encoding="utf-8")
    assert main([command, "--config", str(path)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("Error: ") and "settings.yaml: there is no argument qwertz" in error
