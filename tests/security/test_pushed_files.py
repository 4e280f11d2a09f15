"""No secret and no path of this machine is in any file that any command pushes, nor in the name of one."""

import getpass
import io
import json
import os
import socket
import zipfile

import pytest
from hub_server import TOKEN, HubServer
from test_no_code_runs import CLIENT
from tiny import run_python, save_model, tiny_qwen2

# An untrained model writes nothing that ends, which GRPO refuses.
WRITES = """
from hf_reason.trainers import StepGRPOTrainer
def generate(self, prompts, *args, **kwargs):
    texts = ["<think>\\n步骤1:3+4=7\\n</think>\\n\\n7", "<think>\\n步骤1:3+4=8\\n</think>\\n\\n8"]
    ids = [self._tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    return [ids[row % 2] + [self._tokenizer.eos_token_id] for row in range(len(prompts))], None
StepGRPOTrainer._generate_single_turn = generate
"""
SECRET = "sk-proj-0123456789abcdefghij"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_pushed_file_of_every_command(tmp_path, tokenizer, records):
    place = tmp_path / "home of alice"
    place.mkdir()
    model = save_model(place / "model", tiny_qwen2(tokenizer, num_key_value_heads=2), tokenizer)
    teacher = save_model(place / "teacher", tiny_qwen2(tokenizer, seed=1), tokenizer)
    data = place / "patients.jsonl"
    rows = [{name: row[name] for name in ("context", "steps", "answer")} for row in records]
    data.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    instructions = place / "instructions.yaml"
    instructions.write_text("default: '请一步一步想。'\n", encoding="utf-8")
    config = place / "config.yaml"
    config.write_text(f"run_name: {place}/run\nmodel_init_kwargs: {{token: {SECRET}}}\n")
    common = ["--dataset_name", str(data), "--max_test_records", "1", "--use_cpu", "true", "--max_steps", "2"]
    common += ["--eval_max_completion_length", "16", "--save_strategy", "steps", "--save_steps", "1"]
    common += ["--report_to", "none", "--bf16", "false", "--per_device_train_batch_size", "2", "--seed", "1"]
    common += ["--instructions", str(instructions)]
    small = ["--dataset_name", str(data), "--max_records", "1", "--max_completion_length", "4", "--use_cpu"]
    small += ["--max_drop", "100"]
    student = ["--distill.student_layers", "1", "--distill.max_steps", "2", "--distill.report_to", "none"]
    student += ["--distill.bf16", "false", "--distill.eval_strategy", "no", "--distill.seed", "1"]
    best = ["--eval_strategy", "steps", "--eval_steps", "1", "--load_best_model_at_end", "true"]
    of_model = ["--model_name_or_path", model]
    lists = {
        "sft": [*of_model, *common, "--config", str(config), "--hub_strategy", "all_checkpoints"],
        "lora": [*of_model, *common, *best, "--hub_strategy", "checkpoint"],
        "loar": [*of_model, *common, "--budget", "0.5"],
        "distill": [*of_model, *common, "--teacher_model_name_or_path", teacher],
        "continual": [
            *of_model,
            *common,
            "--old_dataset",
            str(data),
            "--min_learned_records",
            "1",
            "--max_drop",
            "100",
        ],
        "grpo": [*of_model, *common, "--num_generations", "2", "--max_completion_length", "32"],
        "prune": [*of_model, *small],
        "quantize": [*of_model, *small, "--method", "int8"],
        "compress": ["--teacher_model_name_or_path", model, *small, *student, "--quantize.method", "int8"],
    }
    plan = []
    for name, words in lists.items():
        push = ["--push_to_hub", "true", "--hub_model_id", f"tester/{name}", "--hub_token", TOKEN]
        plan.append([name, *words, *push, "--output_dir", str(place / "out" / name)])
    # pushed by the same command afterwards
    late = ["lora", *of_model, *common, "--output_dir", str(place / "out" / "late")]
    plan += [late, [*late, "--push_to_hub", "true", "--hub_model_id", "tester/late", "--hub_token", TOKEN]]
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    with HubServer(tmp_path / "hub") as hub:
        env = hub.env(HF_REASON_ENGINE_API_KEY=SECRET, OPENAI_API_KEY=SECRET)
        done = run_python("-c", WRITES + CLIENT, str(tmp_path / "plan.json"), "none", env=env, timeout=850, cwd=place)
        results = json.loads(done.stdout.splitlines()[-1])
        failed = [(words[0], code, text) for words, code, _, text in results if code != 0]
        assert not failed, failed
        forbidden = [str(tmp_path), str(place), "home of alice", TOKEN, SECRET, os.path.expanduser("~") + "/"]
        forbidden += [socket.gethostname()] if len(socket.gethostname()) > 6 else []
        forbidden += [f"/{getpass.getuser()}/"]
        found = []
        for name in (*lists, "late"):
            assert "README.md" in hub.files(f"tester/{name}"), name
            # whatever any commit has pushed stays in the history
            commits = hub.store.repo("model", f"tester/{name}").branches["main"]
            files = {(path, blob) for commit in commits for path, blob in commit.files.items()}
            for path, blob in sorted(files, key=str):
                content = hub.store.read(blob)
                for part, text in _parts(path, content):
                    found += [f"{name}: {part}: {word}" for word in forbidden if word.encode() in text or word in path]
        assert not found, "\n".join(found)


def _parts(path: str, content: bytes):
    """A file, and what is packed in it."""
    yield path, content
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.namelist():
                yield f"{path}/{member}", archive.read(member)
