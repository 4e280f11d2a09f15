"""The test Hub speaks what huggingface_hub, transformers and datasets say; each client is a fresh process."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import HubServer

PUSH = """
import json, sys
from pathlib import Path
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

words = ["<pad>", "<eos>", "<unk>", "一", "二", "三", "加", "等于"]
backend = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
backend.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=backend, unk_token="<unk>", pad_token="<pad>", eos_token="<eos>",
    chat_template="{% for m in messages %}{{ m['content'] }}{% endfor %}",
)
torch.manual_seed(0)
sizes = dict(vocab_size=8, hidden_size=16, intermediate_size=32, num_hidden_layers=2, head_dim=8)
# not Qwen2: for model_type "qwen2" AutoTokenizer puts Qwen2Tokenizer in place of whatever class was saved
model = Qwen3ForCausalLM(Qwen3Config(**sizes, num_attention_heads=2, num_key_value_heads=1)).eval()
model.push_to_hub("tester/tiny", max_shard_size="4KB")
tokenizer.push_to_hub("tester/tiny")
rows = [{"context": f"题目{i}", "steps": ["一", "二"]} for i in range(7)]
Dataset.from_list(rows).push_to_hub("tester/rows")

code = Path("code"); code.mkdir()
code.joinpath("shout.py").write_text('''
from transformers import PretrainedConfig
class ShoutConfig(PretrainedConfig):
    model_type = "shout"
    def shout(self):
        return self.word.upper()
''')
code.joinpath("config.json").write_text(json.dumps(
    {"model_type": "shout", "word": "hub", "auto_map": {"AutoConfig": "shout.ShoutConfig"}}))
from huggingface_hub import HfApi
api = HfApi()
api.create_repo("tester/shout"); api.create_repo("tester/shout", exist_ok=True)
api.upload_folder(repo_id="tester/shout", folder_path="code")

ids = tokenizer("一 加 二 等于", return_tensors="pt").input_ids
print(json.dumps({"ids": ids.tolist(), "logits": model(ids).logits.tolist()}))
"""

LOAD = """
import json
from datasets import load_dataset
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("tester/tiny")
model = AutoModelForCausalLM.from_pretrained("tester/tiny").eval()
ids = tokenizer("一 加 二 等于", return_tensors="pt").input_ids
rows = load_dataset("tester/rows", split="train")
errors = {}
for name, ask in {
    "file": lambda: hf_hub_download("tester/tiny", "missing.json"),
    "repo": lambda: hf_hub_download("tester/nobody", "config.json"),
    "info": lambda: HfApi().model_info("gpt2"),
    "revision": lambda: hf_hub_download("tester/tiny", "config.json", revision="v9"),
    "tree": lambda: list(HfApi().list_repo_tree("tester/tiny", "no/such/folder")),
}.items():
    try:
        ask()
    except (EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError) as error:
        errors[name] = type(error).__name__
print(json.dumps({
    "ids": ids.tolist(), "logits": model(ids).logits.tolist(), "rows": list(rows), "errors": errors,
    "template": tokenizer.chat_template,
    "shout": AutoConfig.from_pretrained("tester/shout", trust_remote_code=True).shout(),
    "datasets": [item.path for item in HfApi().list_repo_tree("tester/rows", recursive=True, repo_type="dataset")],
}))
"""

API = """
import json
import os
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, HfFileSystem
from huggingface_hub.errors import HfHubHTTPError
api = HfApi()
api.create_repo("tester/api")
out = {"user": api.whoami()["name"]}
big = bytes(range(256)) * 40
first = api.create_commit("tester/api", [CommitOperationAdd("a/b/big.bin", big), CommitOperationAdd("x.txt", b"one")],
    commit_message="first")
again = api.upload_file(path_or_fileobj=b"one", path_in_repo="x.txt", repo_id="tester/api", commit_message="no change")
api.create_branch("tester/api", branch="side")
api.create_commit("tester/api", [CommitOperationDelete("a/")], commit_message="tidy", revision="side")
out["unchanged"] = again.oid == first.oid
out["main"] = api.list_repo_files("tester/api")
out["side"] = api.list_repo_files("tester/api", revision="side")
out["log"] = [commit.title for commit in api.list_repo_commits("tester/api", revision="side")]
out["refs"] = sorted(ref.name for ref in api.list_repo_refs("tester/api").branches)
out["lfs"] = {item.path: bool(item.lfs) for item in api.get_paths_info("tester/api", ["a/b/big.bin", "x.txt", "nix"])}
out["sizes"] = {item.rfilename: item.size for item in api.model_info("tester/api", files_metadata=True).siblings}
with HfFileSystem().open("tester/api/a/b/big.bin", block_size=64) as file:
    file.seek(250)
    out["range"] = list(file.read(8))
def refused(action):
    try:
        action()
    except (HfHubHTTPError, ValueError) as error:
        return type(error).__name__ + " " + str(getattr(getattr(error, "response", None), "status_code", ""))
upload = dict(path_in_repo="y.txt", repo_id="tester/api")
out["bad token"] = refused(lambda: HfApi(token="hf_other").upload_file(path_or_fileobj=b"y", **upload))
out["stale parent"] = refused(lambda: api.upload_file(path_or_fileobj=b"y", parent_commit="0" * 40, **upload))
card = dict(path_in_repo="README.md", repo_id="tester/api")
out["bad card"] = refused(lambda: api.upload_file(path_or_fileobj=b"---\\na: [\\n---\\n", **card))
api.delete_repo("tester/api")
out["deleted"] = not api.repo_exists("tester/api")
print(json.dumps(out))
"""


def run(hub: HubServer, script: str, home: str, folder: Path) -> dict:
    """The last line a fresh client process prints, as JSON."""
    command = [sys.executable, "-W", "ignore", "-c", script]
    done = subprocess.run(command, env=hub.env(home), cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubServer]:
    with HubServer(tmp_path / "hub") as server:
        yield server


@pytest.mark.timeout(180)
def test_what_one_process_pushes_another_one_loads(hub: HubServer, tmp_path: Path) -> None:
    pushed = run(hub, PUSH, "writer", tmp_path)
    files = hub.files("tester/tiny")
    shards = [name for name in files if name.endswith(".safetensors")]
    assert len(shards) > 1 and "model.safetensors.index.json" in files, "the model was meant to be sharded"

    loaded = run(hub, LOAD, "reader", tmp_path)
    assert loaded["ids"] == pushed["ids"]
    assert loaded["logits"] == pushed["logits"]
    assert "messages" in loaded["template"]
    assert loaded["shout"] == "HUB"
    assert loaded["rows"] == [{"context": f"题目{i}", "steps": ["一", "二"]} for i in range(7)]
    assert {"README.md", "data", "data/train-00000-of-00001.parquet"} <= set(loaded["datasets"])
    assert loaded["errors"] == {
        "file": "RemoteEntryNotFoundError",
        "repo": "RepositoryNotFoundError",
        "info": "RepositoryNotFoundError",
        "revision": "RevisionNotFoundError",
        "tree": "RemoteEntryNotFoundError",
    }


@pytest.mark.timeout(120)
def test_commits_branches_ranges_and_refusals(hub: HubServer, tmp_path: Path) -> None:
    out = run(hub, API, "client", tmp_path)
    assert out == {
        "user": "tester",
        "unchanged": True,
        "main": ["a/b/big.bin", "x.txt"],
        "side": ["x.txt"],
        "log": ["tidy", "first", "initial commit"],
        "refs": ["main", "side"],
        "lfs": {"a/b/big.bin": True, "x.txt": False},
        "sizes": {"a/b/big.bin": 10240, "x.txt": 3},
        "range": [250, 251, 252, 253, 254, 255, 0, 1],
        "bad token": "HfHubHTTPError 401",
        "stale parent": "HfHubHTTPError 412",
        "bad card": "ValueError ",
        "deleted": True,
    }


def test_environment_leaves_no_way_to_the_real_hub(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy.invalid:1")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", "elsewhere")
    env = hub.env(home="one", EXTRA="yes")
    assert env["HF_ENDPOINT"] == hub.url and env["EXTRA"] == "yes"
    assert not {"https_proxy", "HF_DATASETS_OFFLINE", "HF_HUB_CACHE"} & set(env)
    assert hub.env(home="two")["HF_HOME"] != env["HF_HOME"]
