"""What the README and the docs tell people to type works: the snippets run, the commands parse.

Names of Hub models stand for a tiny model of the tests: the snippets find it in their place, and run as they are
otherwise.
"""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_docs import COMMANDS, PAGES, ROOT, blocks, commands, page_id
from tiny import save_model, tiny_qwen2

HUB_NAME = r"(?:Qwen|deepseek-ai)/[\w.-]+"


@pytest.fixture(scope="module")
def reading_tokenizer() -> Any:
    """A tokenizer that knows the characters of the built-in sample and of word problems."""
    from hf_reason.data import generate_word_problems, load_cot_sft_dataset, make_record
    from hf_reason.text import render, train_tokenizer

    rows = [make_record(row["context"], row["steps"], row["answer"]) for row in generate_word_problems(20)]
    rows += list(load_cot_sft_dataset("medical", split="train"))
    return train_tokenizer([text for row in rows for text in render(row).values()], vocab_size=1000)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reading_tokenizer: Any) -> Iterator[Path]:
    """An empty folder with a tiny model in it, as working directory."""
    monkeypatch.chdir(tmp_path)
    sizes = {"num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 4096}
    save_model(tmp_path / "tiny", tiny_qwen2(reading_tokenizer, **sizes), reading_tokenizer)
    yield tmp_path


def local(code: str) -> str:
    """The snippet with the tiny model in place of models on the Hub."""
    return re.sub(HUB_NAME, "tiny", code)


def test_snippets_of_the_readme_run(here: Path) -> None:
    """Those of the Chinese README are the same (test_docs)."""
    names: dict[str, Any] = {}
    for snippet in blocks(ROOT / "README.md", "python"):
        exec(compile(local(snippet), "README.md", "exec"), names)
    assert (here / "outputs/mine/model.safetensors").is_file()
    assert names["output"].closed_by in ("model", "budget", "stop")
    assert 0 <= names["result"].answer_accuracy <= 1


def test_snippets_of_the_docs_compile_and_import() -> None:
    """Every Python block compiles, and what it imports from the project is there."""
    for page in PAGES:
        for snippet in blocks(page, "python"):
            for node in ast.walk(ast.parse(snippet, page_id(page))):
                if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] in ("hf_reason", "trl"):
                    module = importlib.import_module(str(node.module))
                    for alias in node.names:
                        assert hasattr(module, alias.name), f"{page_id(page)}: {node.module} has no {alias.name}"


def test_snippets_of_the_docs_run(here: Path, reading_tokenizer: Any) -> None:
    """The snippets that need no training of minutes, with the objects that their pages speak of."""
    from transformers import AutoModelForCausalLM

    from hf_reason.data import generate_word_problems, make_record
    from hf_reason.text import encode

    def model() -> Any:
        return AutoModelForCausalLM.from_pretrained("tiny")

    rows = [make_record(row["context"], row["steps"], row["answer"]) for row in generate_word_problems(8)]
    examples = [encode(row, reading_tokenizer) for row in rows[:2]]
    given = {"tokenizer": reading_tokenizer, "record": rows[0], "test": rows[:2], "examples": examples}
    given |= {"more_examples": examples * 2, "inputs": reading_tokenizer("问题", return_tensors="pt")}
    for page, number in (("ask", 0), ("evaluate", 0), ("evaluate", 1), ("loar", 0), ("python", 2), ("python", 3)):
        snippet = local(blocks(ROOT / "docs" / f"{page}.md", "python")[number])
        if page == "loar":  # in the page a fresh process and a LoAR with tasks begin where this one goes on
            snippet = snippet.split("model = LoAR.from_pretrained")[0]
        exec(compile(snippet, page, "exec"), given | {"model": model()})


def command_lines() -> list[Any]:
    found = {}
    for page in PAGES:
        for words in commands(page):
            if words[0] in COMMANDS and words[0] != "demo" and "..." not in words:
                found.setdefault(tuple(words), page_id(page))
    return [pytest.param(list(words), id=f"{page}: {' '.join(words)[:60]}") for words, page in found.items()]


# Configs that stand for FILE.yaml, a config of the reader's own.
CONFIGS = {
    "sft": "sft_cot/demo.yaml",
    "distill": "distill_kl/demo.yaml",
    "lora": "lora_reasoner/demo.yaml",
    "loar": "loar/demo.yaml",
    "continual": "continual/demo.yaml",
    "grpo": "grpo/demo.yaml",
}


@pytest.mark.parametrize("words", command_lines())
def test_commands_parse(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command of README and docs goes through its command's own parser."""
    from hf_reason.cli.parsing.launch_plan import split_arguments
    from hf_reason.cli.parsing.parser import parse

    monkeypatch.chdir(ROOT)
    command, arguments = words[0], list(words[1:])
    if command in ("compress", "circle"):
        from hf_reason.cli.circling.arguments import SECTIONS
        from hf_reason.cli.stages.sections import STAGES, split_words

        arguments, sections = split_words(arguments, STAGES if command == "compress" else SECTIONS)
        for stage, options in sections.items():
            test_commands_parse([stage, *options], monkeypatch)
    config = f"recipes/configs/{CONFIGS.get(command)}"
    arguments = [config if word in ("FILE.yaml", "X.yaml") else word for word in arguments]
    launch, arguments = split_arguments(COMMANDS[command], arguments)
    assert not launch or COMMANDS[command].launches
    if "--config" not in arguments:
        # in a running text a command names the options that the sentence is about
        fields = COMMANDS[command].fields()
        for name in ("dataset_name", "model_name_or_path", "output_dir", "old_dataset"):
            if name in fields and f"--{name}" not in arguments:
                arguments += [f"--{name}", "tiny"]
    if COMMANDS[command].trains:
        arguments += ["--use_cpu", "true", "--bf16", "false"]  # a config for GPUs
    monkeypatch.setattr("importlib.util.find_spec", found_or_installed())
    parse(command, argument_classes(command), arguments)


def argument_classes(command: str) -> list[type]:
    return [
        getattr(importlib.import_module(name.split(":")[0]), name.split(":")[1]) for name in COMMANDS[command].classes
    ]


def found_or_installed() -> Any:
    """`find_spec`, for which the packages of the extras are always there."""
    real = importlib.util.find_spec
    return lambda name, *rest: True if name in ("tensorboard", "trackio") else real(name, *rest)
