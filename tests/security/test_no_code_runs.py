"""No code of a downloaded file runs: weights, configs, tokenizers, adapters, templates, YAML, data, checkpoints."""

import json
import os

import pytest
import yaml
from hostile import JINJA_WAYS, YAML_WAYS, files_of, module, pickled, repositories, torch_file, upload
from hub_server import HubServer
from tiny import run_python, save_model, tiny_qwen2

# One process runs every command on every repository; whoever would be asked "do you trust it?" would hear yes.
CLIENT = """
import io, json, sys, contextlib, os, traceback
from hf_reason.cli.main import main
results = []
for words in json.load(open(sys.argv[1])):
    err = io.StringIO()
    try:
        with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
            code = main(words)
    except SystemExit as error:
        code = error.code
    except BaseException:
        code = "Traceback " + traceback.format_exc()[-1500:]
    results.append([words, code, os.path.exists(sys.argv[2]), err.getvalue()[-600:]])
print("\\n" + json.dumps(results))
"""


def commands(model: str, data: str, out: str, good: str) -> list[list[str]]:
    """Every command that loads a model, on this one."""
    short = ["--max_records", "1", "--max_completion_length", "2", "--use_cpu", "true"]
    train = ["--dataset_name", data, "--max_steps", "1", "--use_cpu", "true", "--save_strategy", "no"]
    train += ["--max_test_records", "0", "--report_to", "none", "--eval_strategy", "no"]
    train += ["--per_device_train_batch_size", "1", "--bf16", "false"]
    of_model = ["--model_name_or_path", model]
    lists = {
        "ask": [*of_model, "--question", "1+1=?", "--max_thought_tokens", "8", "--max_answer_tokens", "1"],
        "evaluate": [*of_model, "--dataset_name", data, *short],
        "sft": [*of_model, *train],
        "lora": [*of_model, *train],
        "loar": [*of_model, *train],
        "grpo": [*of_model, *train, "--num_generations", "1"],
        "continual": [*of_model, *train, "--old_dataset", data],
        "distill": ["--model_name_or_path", good, "--teacher_model_name_or_path", model, *train],
        "cache-teacher": ["--teacher_model_name_or_path", model, "--dataset_name", data],
        "generate-traces": ["--teacher_model_name_or_path", model, "--dataset_name", data, *short],
        "augment": ["--dataset_name", data, "--back_translation", "1", "--translator_model_name_or_path", model],
        "quantize": [*of_model, "--dataset_name", data, "--method", "nf4", *short],
        "prune": [*of_model, "--dataset_name", data, *short],
        "export-gguf": [*of_model, "--outfile", f"{out}/x.gguf"],
    }
    without = ("ask", "export-gguf")
    return [
        [name, *words, *([] if name in without else ["--output_dir", f"{out}/{name}"])]
        for name, words in lists.items()
    ]


@pytest.fixture
def good(tmp_path, tokenizer):
    return save_model(tmp_path / "good", tiny_qwen2(tokenizer), tokenizer)


@pytest.fixture
def data(tmp_path, records):
    path = tmp_path / "data.jsonl"
    rows = [{name: row[name] for name in ("context", "steps", "answer")} for row in records[:12]]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_every_command_on_every_hostile_repository(tmp_path, good, data):
    canary = str(tmp_path / "canary")
    (tmp_path / "evil.py").write_bytes(module(canary, "EvilModel"))  # importable, if somebody imports a name
    with HubServer(tmp_path / "hub") as hub:
        hostile = repositories(files_of(tmp_path / "good"), canary, good)
        for name, files in hostile.items():
            upload(hub, f"tester/{name}", files)
        plan = [
            words for name in hostile for words in commands(f"tester/{name}", data, str(tmp_path / "out" / name), good)
        ]
        (tmp_path / "plan.json").write_text(json.dumps(plan))
        env = hub.env(PYTHONPATH=os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
        done = run_python(
            "-c",
            CLIENT,
            str(tmp_path / "plan.json"),
            canary,
            env=env,
            input="y\n" * 10_000,
            timeout=1400,
            cwd=tmp_path,
        )
    results = json.loads(done.stdout.splitlines()[-1])
    assert len(results) == len(plan)
    ran = [words for words, _, seen, _ in results if seen]
    assert not ran, f"code of the repository ran first in {ran[0]}"
    (tmp_path / "results.json").write_text(json.dumps(results))
    broken: dict[str, list[str]] = {}
    for words, code, _, _ in results:
        if code not in (0, 2, 3):  # a traceback
            last = [line for line in str(code).splitlines() if line.strip()][-1]
            broken.setdefault(last[:300], []).append(" ".join(words[:3]))
    assert not broken, json.dumps(broken, indent=1)


@pytest.mark.parametrize("way", range(len(YAML_WAYS)))
def test_yaml_tags_are_refused(tmp_path, way, capsys):
    from hf_reason.cli.main import main
    from hf_reason.data import DataError
    from hf_reason.data.clean.domains import DomainTagger
    from hf_reason.text.instructions import load_instructions

    canary, path = tmp_path / "canary", tmp_path / "x.yaml"
    path.write_text(YAML_WAYS[way] % str(canary))
    with pytest.raises(ValueError, match="is not YAML"):
        load_instructions(path)
    with pytest.raises(DataError):
        DomainTagger(path)
    for command in ("prepare", "sft", "evaluate"):
        assert main([command, "--config", str(path)]) == 2
        assert "this is not YAML" in capsys.readouterr().err
    assert not canary.exists()


@pytest.mark.parametrize("way", range(len(JINJA_WAYS)))
def test_templates_cannot_reach_python(tmp_path, tokenizer, way):
    from hf_reason.serving.engines.template import ChatTemplate
    from hf_reason.text import build_prompt
    from hf_reason.text.conversation import build_conversation

    canary = tmp_path / "canary"
    text = JINJA_WAYS[way] % str(canary) + "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": text}))
    tokenizer.chat_template = text
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    for apply in (
        lambda: build_prompt({"context": "题"}, tokenizer),
        lambda: build_conversation(turns, tokenizer),
        lambda: build_conversation(turns, ChatTemplate(tmp_path)),
    ):
        with pytest.raises(Exception) as refused:
            apply()
        assert "unsafe" in str(refused.value) or "undefined" in str(refused.value), refused.value
    assert not canary.exists()


def test_instructions_of_a_model_cannot_reach_attributes(tmp_path):
    from hf_reason.text.instructions import load_instructions

    for field in ("{context.__class__}", "{context[0]}", "{context!r:{task}}", "{0}", "{domain.__init__.__globals__}"):
        (tmp_path / "i.yaml").write_text(yaml.safe_dump({"math": field}))
        if "!r" in field:  # a nested field is one of the record's texts, as a width
            continue
        with pytest.raises(ValueError, match="which a record does not have"):
            load_instructions(tmp_path / "i.yaml")


def test_a_checkpoint_from_elsewhere_is_not_unpickled(tmp_path, tiny_model, tokenizer, records):
    """Optimizer, scheduler, random state and arguments of a run that somebody has downloaded to resume it."""
    from tiny import tiny_trainer

    from hf_reason.trainers import CoTSFTConfig, CoTSFTTrainer

    canary = tmp_path / "canary"

    def make():
        settings = {"save_strategy": "steps", "save_steps": 1, "max_steps": 2}
        return tiny_trainer(
            CoTSFTTrainer, CoTSFTConfig, tmp_path / "run", tiny_model, tokenizer, records[:8], **settings
        )

    make().train()
    folder = tmp_path / "run" / "checkpoint-1"
    names = sorted(path.name for path in folder.iterdir() if path.suffix in (".pt", ".pth", ".bin"))
    assert {"optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"} <= set(names)
    for name in names:
        before = (folder / name).read_bytes()
        for content in (torch_file(str(canary)), pickled(str(canary))):
            (folder / name).write_bytes(content)
            try:
                make().train(resume_from_checkpoint=str(folder))
            except Exception as error:
                assert "os.mkdir" in str(error) or "posix.mkdir" in str(error) or "weights_only" in str(error), name
            assert not canary.exists(), name
        (folder / name).write_bytes(before)


def test_dataset_scripts_do_not_run(tmp_path):
    """A folder as data, with a script of its name beside it, as the Hub had them."""
    from hf_reason.data.read.sources import read_traces

    canary, folder = tmp_path / "canary", tmp_path / "mine"
    folder.mkdir()
    (folder / "mine.py").write_bytes(module(str(canary)))
    (folder / "rows.pkl").write_bytes(pickled(str(canary)))
    row = {"input": "1+1=?", "reasoning_content": "1+1=2", "content": "2"}
    (folder / "rows.jsonl").write_text(json.dumps(row) + "\n")
    assert [trace.answer for trace in read_traces(folder)] == ["2"]
    assert not canary.exists()
