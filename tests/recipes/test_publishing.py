"""`push_to_hub` of compressed models: only what passed the gate, early errors, no token in a file."""

import json
from types import SimpleNamespace

import pytest
from hub_server import TOKEN, HubServer
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError
from tiny import run_python, save_model, tiny_qwen2

from hf_reason.cli.compress import CompressArguments
from hf_reason.cli.compression_folders import SETTINGS, same_or_refuse, work_folder
from hf_reason.cli.prune import PruneArguments
from hf_reason.cli.publishing import PUSH_OPTIONS, check_can_push
from hf_reason.cli.stages.sections import stages_of


def arguments(tmp_path, **values):
    return PruneArguments(
        model_name_or_path="m", output_dir=str(tmp_path / "small"), dataset_name=["d"], push_to_hub=True, **values
    )


def test_no_token_is_said_before_the_work(tmp_path, monkeypatch):
    def missing(self):
        raise LocalTokenNotFoundError("none")

    monkeypatch.setattr(HfApi, "whoami", missing)
    with pytest.raises(ValueError, match="push_to_hub needs a token. Log in with `hf auth login`, set HF_TOKEN"):
        check_can_push(arguments(tmp_path))


@pytest.mark.parametrize("status, text", [(401, "refuses the token"), (403, "refuses the token"), (503, "not answer")])
def test_a_hub_that_refuses(tmp_path, monkeypatch, status, text):
    def refuse(self):
        raise HfHubHTTPError("no", response=SimpleNamespace(status_code=status, headers={}, request=None))

    monkeypatch.setattr(HfApi, "whoami", refuse)
    with pytest.raises(ValueError, match=text):
        check_can_push(arguments(tmp_path))


def test_a_name_that_the_hub_does_not_take(tmp_path):
    with pytest.raises(ValueError, match="cannot be the name of a repository.*--hub_model_id"):
        check_can_push(arguments(tmp_path, hub_model_id="a/b/c"))


def test_a_name_without_a_push(tmp_path):
    args = arguments(tmp_path, hub_model_id="me/small")
    args.push_to_hub = False
    with pytest.raises(ValueError, match="nothing is pushed"):
        check_can_push(args)


def test_a_push_may_be_added_later_and_its_token_is_not_kept(tmp_path):
    args = arguments(tmp_path, hub_token="hf_secret")
    same_or_refuse("prune", args)
    (work_folder(args) / "pruned").mkdir()
    kept = (work_folder(args) / SETTINGS).read_text()
    assert "hf_secret" not in kept and PUSH_OPTIONS[0] not in json.loads(kept)
    args.push_to_hub = False
    same_or_refuse("prune", args)


def test_the_stages_of_a_path_are_not_pushed(tmp_path):
    args = CompressArguments(
        teacher_model_name_or_path="m", output_dir="small", dataset_name=["d"], push_to_hub=True, hub_token="hf_secret"
    )
    (stage,) = stages_of(args, {"prune": {}}, {}, None)
    assert not set(PUSH_OPTIONS) & stage.settings.keys() and not set(PUSH_OPTIONS) & stage.shaping.keys()
    with pytest.raises(ValueError, match="push_to_hub belongs beside the sections"):
        stages_of(args, {"prune": {"push_to_hub": True}}, {}, None)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_finished_model_is_pushed_once_and_of_a_path_the_last(tmp_path, tokenizer, dataset):

    save_model(tmp_path / "model", tiny_qwen2(tokenizer), tokenizer)
    data = ("--dataset_name", dataset, "--max_records", "2", "--max_completion_length", "4", "--use_cpu")
    push = ("--push_to_hub", "true", "--hub_model_id", "tester/small")
    with HubServer(tmp_path / "hub") as hub:

        def command(name, *words):
            code = f"import sys; from hf_reason.cli.main import main; sys.exit(main({[name, *data, *push, *words]!r}))"
            return run_python("-c", code, env=hub.env("member"))

        prune = ("prune", "--model_name_or_path", str(tmp_path / "model"), "--output_dir", str(tmp_path / "small"))
        done = command(*prune, "--max_drop", "100")
        assert done.returncode == 0 and "was pushed to tester/small" in done.stdout, done.stderr[-2000:]
        files = hub.files("tester/small")
        assert {"README.md", "compression.json", "model.safetensors", "tokenizer.json"} <= files.keys()
        assert "run.json" not in files
        for name, content in files.items():
            if name != "tokenizer.json" and not name.startswith("evaluation/"):
                assert str(tmp_path).encode() not in content and TOKEN.encode() not in content, name
        done = command(*prune, "--max_drop", "100")
        assert done.returncode == 0 and "nothing to do" in done.stdout and "was pushed" not in done.stdout
        done = command(
            "compress", "--teacher_model_name_or_path", str(tmp_path / "model"), "--max_drop", "100",
            "--output_dir", str(tmp_path / "path"), "--hub_model_id", "tester/path", "--prune.ratio", "0.3",
        )  # fmt: skip
        assert done.returncode == 0 and done.stdout.count("was pushed to") == 1, done.stderr[-2000:]
        assert json.loads(hub.files("tester/path")["compression.json"])["command"] == "compress"
