"""The commands in the shell blocks of README and docs, run as they stand, page by page.

A page's commands run one after the other in a folder that has what the pages speak of: a file of traces, prepared
data, a model that was trained. Models on the Hub are a tiny one. What is added to a command only makes it short.
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from datasets import load_from_disk
from test_docs import COMMANDS, PAGES, ROOT, commands, page_id, shell_lines
from test_readme import HUB_NAME
from tiny import save_model, tiny_qwen2
from trace_server import FakeTeacher

# (what a command's words match, the reason why it does not run here)
ELSEWHERE = (
    (
        r"^demo|configs/.*demo|outputs/demo",
        "needs the demo's model, or makes it: test_demo_recipe.py, test_configs.py",
    ),
    (r"--num_processes|--accelerate_config", "several processes: test_launcher.py, test_accelerate_configs.py"),
    (r"--push_to_hub", "a Hub: test_publishing.py"),
    (r"^serve .*(?:--engine openai|--replicas)", "other servers: tests/serving"),
    (r"FILE\.yaml", "a config of the reader's own: test_readme.py"),
    (r"Qwen2-VL|data/charts|outputs/charts", "images: test_images_recipe.py, test_augment_recipe.py"),
    (r"^circle ", "serves until users have answered: test_circle_recipe.py"),
    (r"load_in_4bit|mine-nf4|--method nf4", "bitsandbytes: test_round_trips.py, test_lora_recipe.py"),
    (r"^compress ", "every stage: test_compress_recipe.py"),
)
# What makes a command short, where it has such an option.
SHORT: dict[str, Any] = {
    "max_steps": 1,
    "per_device_train_batch_size": 2,
    "recover_steps": 1,
    "max_records": 4,
    "max_test_records": 2,
    "eval_max_completion_length": 8,
    "max_completion_length": 16,
    "max_answer_tokens": 8,
    "calibration_records": 4,
    "report_to": "none",
    "use_cpu": "true",
    "bf16": "false",
    "port": 0,
}
# The tiny model has no chains of its own that are right, and no reasoning to lose.
MORE: dict[str, dict[str, Any]] = {
    "augment": {"max_completion_length": None},  # no model writes
    "cache-teacher": {"max_records": None},
    "quantize": {"calibration": "traces", "group_size": 32, "max_drop": 100, "min_close_rate": 0},
    "prune": {"calibration": "traces", "recover_on": "traces", "max_drop": 100, "min_close_rate": 0},
    "grpo": {"per_device_train_batch_size": 8, "max_completion_length": 400},  # some of them end by chance
    "continual": {"max_drop": 100},
}
SERVER = "http://127.0.0.1:8000/v1"
FILES = ("traces", "feedback", "new", "my_test", "test", "problems")
FOLDERS = {"data/mine": ("data/finance", "data/augmented", "outputs/prepared"), "outputs/mine": ("outputs/round1",)}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the pages speak of."""
    from datasets import Dataset, DatasetDict

    from hf_reason.data import generate_word_problems, make_record
    from hf_reason.serving.feedback import FeedbackStore, Served
    from hf_reason.text import render, train_tokenizer

    folder: Path = tmp_path_factory.mktemp("docs")
    problems = list(generate_word_problems(220))
    rows = [
        {
            "problem": row["context"],
            "reasoning": "\n\n".join(f"{number}. {step}" for number, step in enumerate(row["steps"], 1)),
            "answer": row["answer"],
        }
        for row in problems[:200]
    ]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "more_traces").mkdir()
    for name in (*(f"{name}.jsonl" for name in FILES), "more_traces/more.jsonl", "user.jsonl"):
        (folder / name).write_text(text, encoding="utf-8")
    splits = {"train": problems[:180], "validation": problems[180:190], "test": problems[190:200]}
    rows_of = {
        name: [make_record(row["context"], row["steps"], row["answer"]) for row in part]
        for name, part in splits.items()
    }
    DatasetDict({name: Dataset.from_list(part) for name, part in rows_of.items()}).save_to_disk(
        str(folder / "data/mine")
    )
    known = [text for part in rows_of.values() for row in part for text in render(row).values()]
    tokenizer = train_tokenizer(known, vocab_size=600)
    sizes = {"hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 4096}
    model = tiny_qwen2(tokenizer, **sizes)
    for name in ("tiny", "outputs/mine"):
        save_model(folder / name, model, tokenizer)
    (folder / "outputs/serve").mkdir()
    store = FeedbackStore(folder / "outputs/serve/feedback.db")
    for row in problems[200:]:
        served = Served(f"chat-{row['context']}", row["context"], "0", ("1+1=3",))
        store.add(served, corrected_answer=row["answer"], corrected_steps=row["steps"])
    store.close()
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], base_model_name_or_path="outputs/mine"))
    for name in ("finance", "medical"):
        adapted.save_pretrained(folder / "outputs" / name)
    for source, names in FOLDERS.items():
        for name in names:
            shutil.copytree(folder / source, folder / name)
    return folder


def runnable() -> list[Any]:
    """The pages with their commands, each command once."""
    seen: set[str] = set()
    found = []
    for page in PAGES:
        lines = []
        for words in shell_lines(page):
            line = " ".join(words[1:])
            if words[0] == "hf-reason" and line not in seen and "..." not in words:
                seen.add(line)
                if not any(re.search(pattern, line) for pattern, _ in ELSEWHERE):
                    lines.append(words[1:])
        if lines:
            found.append(pytest.param(lines, id=page_id(page)))
    return found


def shortened(words: list[str]) -> list[str]:
    """The command with the tiny model for those of the Hub, and with few steps and records."""
    command = words[0]
    fields = COMMANDS[command].fields()
    words = [re.sub(HUB_NAME, "tiny", word) for word in words]
    words = ["user.jsonl" if word == "user/dataset-on-the-hub" else word for word in words]
    for name, value in {**SHORT, **MORE.get(command, {})}.items():
        if name in fields:
            words = without(words, f"--{name}") + ([] if value is None else [f"--{name}", str(value)])
    return words


def without(words: list[str], option: str) -> list[str]:
    """The words without this option and its value."""
    if option not in words:
        return words
    place = words.index(option)
    return words[:place] + words[place + 2 :]


@pytest.mark.slow
@pytest.mark.parametrize("lines", runnable())
def test_commands_run(
    lines: list[list[str]],
    template: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: Any,
    request: pytest.FixtureRequest,
) -> None:
    from hf_reason.cli.main import main

    server = FakeTeacher(load_from_disk(str(template / "data/mine"))["train"])
    request.addfinalizer(server.close)
    here = tmp_path / "here"
    shutil.copytree(template, here)
    monkeypatch.chdir(here)
    monkeypatch.setattr("hf_reason.serving.graceful.GracefulServer.run", lambda self, sockets: None)
    for words in lines:
        output = words[words.index("--output_dir") + 1] if "--output_dir" in words else None
        if output is not None and (here / output).exists():
            shutil.rmtree(here / output)  # the page's next way to the same folder
        code = main([re.sub(SERVER, server.url, word) for word in shortened(words)])
        shown = capfd.readouterr()
        assert code == 0, f"hf-reason {' '.join(words)}\n{shown.err[-2000:]}"
        assert output is None or list((here / output).iterdir()), output


def test_what_does_not_run_has_a_reason() -> None:
    """Each reason is needed, and names tests that are there."""
    lines = {" ".join(words) for page in PAGES for words in commands(page)}
    for pattern, reason in ELSEWHERE:
        assert any(re.search(pattern, line) for line in lines), pattern
        for name in re.findall(r"[\w/]+\.py|tests/\w+", reason):
            assert list((ROOT / "tests").rglob(name)) or (ROOT / name).is_dir(), name
