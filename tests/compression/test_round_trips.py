"""Compressed by the command, loaded by plain transformers in a fresh process, pushed to a Hub and back.

Everywhere the same tokens come out; nothing that is pushed names this machine or holds a text of the calibration.
"""

import json
import os

import pytest
import torch
from datasets import Dataset, DatasetDict
from hub_server import TOKEN, HubServer
from tiny import run_python, save_model, tiny_model, tiny_step_reasoner

from hf_reason.cli.main import main

SIZES = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2}
PROMPT = "<|user|>1+1=?\n<|assistant|><think>"
GENERATE = """
import json, sys
place, prompt, code, own = sys.argv[1:5]
if own == "True":
    import hf_reason
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

def generated(place):
    tokenizer = AutoTokenizer.from_pretrained(place)
    model = AutoModelForCausalLM.from_pretrained(place).eval()
    ids = tokenizer(prompt, return_tensors="pt")
    tokens = model.generate(**ids, max_new_tokens=12, do_sample=False)[0].tolist()
    return model, tokenizer, tokens
"""
PUSH = """
from huggingface_hub import HfApi
model, tokenizer, tokens = generated(place)
if code != "folder":
    model.push_to_hub("tester/pushed")
    tokenizer.push_to_hub("tester/pushed")
api = HfApi()
api.create_repo("tester/folder")
api.upload_folder(repo_id="tester/folder", folder_path=place)
assert own == "True" or "hf_reason" not in sys.modules
print(json.dumps(tokens))
"""
PULL = """
repos = ("folder",) if code == "folder" else ("folder", "pushed")
found = {repo: generated(f"tester/{repo}")[2] for repo in repos}
assert own == "True" or "hf_reason" not in sys.modules
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def dataset(records, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("data")
    parts = {"train": records[:44], "validation": records[44:52], "test": records[52:]}
    DatasetDict({name: Dataset.from_list(rows) for name, rows in parts.items()}).save_to_disk(folder)
    return str(folder)


GPTQ = ("quantize", "--group_size", "32", "--calibration", "traces", "--calibration_records", "8")


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "kind, command",
    [
        ("qwen2", GPTQ),
        ("step_reasoner", GPTQ),
        ("qwen2", ("quantize", "--method", "nf4")),
        ("qwen2", ("quantize", "--method", "int8")),
        ("qwen2", ("prune", "--ratio", "0.3")),
        ("llama", ("prune", "--num_key_value_heads", "1", "--calibration", "traces", "--calibration_records", "8")),
        ("step_reasoner", ("prune", "--ratio", "0.3", "--modules", "all")),
    ],
    ids=["gptq", "gptq-step", "nf4", "int8", "zeros", "groups", "zeros-step"],
)
def test_same_tokens_everywhere_and_nothing_private(
    kind, command, tokenizer, records, dataset, tmp_path, monkeypatch, capsys
):
    pytest.importorskip("gptqmodel" if "--group_size" in command else "bitsandbytes")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    own = kind == "step_reasoner"
    model = tiny_step_reasoner(tokenizer, **SIZES) if own else tiny_model(tokenizer, kind, **SIZES)
    save_model(tmp_path / "model", model, tokenizer)
    # A loaded quantised model is not saved again: gptqmodel's kernels rearrange its weights, and transformers 5.23
    # cannot turn its conversions of bitsandbytes' weights round.
    code = "folder" if command[0] == "quantize" else "both"
    repos = ("folder",) if code == "folder" else ("folder", "pushed")
    small = tmp_path / "small"
    common = ("--model_name_or_path", str(tmp_path / "model"), "--dataset_name", dataset, "--max_records", "2")
    more = ("--max_drop", "100", "--max_completion_length", "4", "--use_cpu", "--output_dir", str(small))
    assert main([command[0], *common, *more, *command[1:]]) == 0, capsys.readouterr().err

    from transformers import AutoModelForCausalLM, AutoTokenizer

    ids = AutoTokenizer.from_pretrained(small)(PROMPT, return_tensors="pt")
    made = AutoModelForCausalLM.from_pretrained(small).eval()
    with torch.no_grad():
        expected = made.generate(**ids, max_new_tokens=12, do_sample=False)[0].tolist()
    assert len(expected) > ids["input_ids"].shape[1]

    def client(script, place, home):
        (tmp_path / "client.py").write_text(GENERATE + script)
        done = run_python(
            "-W", "ignore", str(tmp_path / "client.py"), place, PROMPT, code, str(own), env=hub.env(home)
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.strip().splitlines()[-1])

    with HubServer(tmp_path / "hub") as hub:
        assert client(PUSH, str(small), "member") == expected
        assert client(PULL, "", "stranger") == dict.fromkeys(repos, expected)
        private = [str(tmp_path), dataset, os.path.expanduser("~"), TOKEN, *records[0]["steps"], *records[3]["steps"]]
        for repo in repos:
            files = hub.files(f"tester/{repo}")
            assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= files.keys()
            for name, content in files.items():
                if name == "tokenizer.json" or name.startswith(
                    "evaluation/"
                ):  # its merges; problems of the test split
                    continue
                for text in private:
                    assert text.encode() not in content, (repo, name, text)
