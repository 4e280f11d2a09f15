"""An installed wheel does everything without a checkout: data, training, evaluation, a question."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from a copy, since setuptools leaves files in the tree that it builds from."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    shutil.copytree(ROOT / "hf_reason", source / "hf_reason", ignore=shutil.ignore_patterns("__pycache__"))
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(target)]
    run(sys.executable, "-m", "pip", "wheel", str(source), *options, cwd=target)
    (found,) = target.glob("hf_reason-*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The programs of a fresh environment with the wheel, and this one's libraries, without a download."""
    folder = tmp_path_factory.mktemp("environment") / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", str(folder), cwd=folder.parent)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    where = run(
        str(programs / "python"), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"
    ).stdout.strip()
    # a path in a .pth file has its own .pth files left alone, so this checkout's editable install stays behind
    paths = dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *_parents()])
    Path(where, "libraries.pth").write_text("\n".join(paths) + "\n")
    options = ["--no-deps", "--no-index", "--ignore-installed", "--target", where]
    run(sys.executable, "-m", "pip", "install", *options, str(wheel), cwd=folder.parent)
    # `--target` puts the program beside the modules, with the interpreter of this environment
    program = programs / "hf-reason"
    program.write_text(f"#!{programs / 'python'}\n" + Path(where, "bin", "hf-reason").read_text().split("\n", 1)[1])
    program.chmod(0o755)
    return programs


def _parents() -> list[str]:
    """Folders of libraries that this environment itself has from another one."""
    return [path for path in sys.path if path.endswith("site-packages")]


def run(*command: str, cwd: Path | None = None) -> subprocess.CompletedProcess:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=300)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_installed_wheel_works_in_an_empty_folder(installed, tmp_path):
    python, program = str(installed / "python"), str(installed / "hf-reason")
    origin = run(python, "-c", "import hf_reason; print(hf_reason.__file__)", cwd=tmp_path).stdout.strip()
    assert Path(origin).is_relative_to(installed.parent)
    sample = Path(origin).parent / "data" / "sample" / "openr1_math.jsonl"
    done = run(
        program, "prepare", "--dataset_name", str(sample), "--output_dir", "data", "--min_steps", "2", cwd=tmp_path
    )
    assert "report.html" in done.stdout and (tmp_path / "data" / "report.html").is_file()
    training = ["--max_steps", "2", "--per_device_train_batch_size", "2", "--model_config", json.dumps(SIZES)]
    evaluation = ["--max_test_records", "2", "--eval_max_completion_length", "8"]
    here = ["--use_cpu", "true", "--vocab_size", "600"]
    run(program, "sft", "--dataset_name", "data", "--output_dir", "out", *training, *evaluation, *here, cwd=tmp_path)
    assert (tmp_path / "out" / "model.safetensors").is_file() and (tmp_path / "out" / "README.md").is_file()
    measured = [
        "--dataset_name",
        "data",
        "--max_records",
        "2",
        "--max_completion_length",
        "8",
        "--output_dir",
        "report",
    ]
    done = run(python, "-m", "hf_reason.cli", "evaluate", "--model_name_or_path", "out", *measured, cwd=tmp_path)
    assert "answer accuracy" in done.stdout and (tmp_path / "report" / "evaluation.json").is_file()
    asked = ["--question", "1+1=?", "--max_thought_tokens", "8", "--max_answer_tokens", "4"]
    assert "Answer:" in run(program, "ask", "--model_name_or_path", "out", *asked, cwd=tmp_path).stdout
    assert {path.name for path in tmp_path.iterdir()} == {"data", "out", "report"}, "nothing else is written here"


@pytest.mark.slow
def test_the_wheel_has_its_data_and_nothing_else(wheel):
    import zipfile

    names = set(zipfile.ZipFile(wheel).namelist())
    tracked = run("git", "ls-files", "hf_reason", cwd=ROOT).stdout.splitlines()
    shipped = {name for name in names if name.startswith("hf_reason/")}
    assert shipped == set(tracked), sorted(shipped ^ set(tracked))
    assert {name.split("/")[0] for name in names - shipped} == {f"{wheel.name.rsplit('-py3', 1)[0]}.dist-info"}
    for name in ("demo", "demo_direct", "demo_step_reasoner"):
        assert f"hf_reason/cli/configs/{name}.yaml" in names
    for name in ("ddp", "zero2_offload", "zero3", "fsdp2"):
        assert f"hf_reason/cli/accelerate/{name}.yaml" in names
