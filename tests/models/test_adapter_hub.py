"""Adapters on the Hub: their base comes from there, too, and is checked by the hash pushed with the adapter."""

import json
import textwrap

import pytest
from hub_server import HubServer
from peft import LoraConfig, get_peft_model
from tiny import run_python, save_model, tiny_qwen2
from transformers import AutoModelForCausalLM

from hf_reason.models.adapter_files import save_adapter_files
from hf_reason.models.base_weights import base_fingerprint

_CLIENT = """
import json, sys
from huggingface_hub import HfApi
from transformers import AutoModelForCausalLM
from hf_reason.cli.generation_arguments import InferenceArguments
from hf_reason.cli.inputs.inference import load_for_inference
from hf_reason.models.adapter_loading import adapter_place
from hf_reason.models.peft_adapters import AdapterError

api, folder = HfApi(), sys.argv[1]
for name in ("base", "adapter"):
    repo = api.create_repo(name).repo_id
    api.upload_folder(repo_id=repo, folder_path=f"{folder}/{name}")
args = InferenceArguments(use_cpu=True)
assert adapter_place("tester/adapter") == "tester/adapter" and adapter_place("tester/base") is None
model, _ = load_for_inference("tester/adapter", args)
found = {"kind": type(model).__name__}
api.upload_folder(repo_id="tester/base", folder_path=f"{folder}/other")
try:
    load_for_inference("tester/adapter", args)
except AdapterError as error:
    found["refused"] = str(error)
print(json.dumps(found))
"""


@pytest.mark.slow
def test_an_adapter_of_the_hub_is_checked_against_its_base(tmp_path, tokenizer):
    for name, seed in (("base", 0), ("other", 1)):
        save_model(tmp_path / name, tiny_qwen2(tokenizer, seed=seed), tokenizer)
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    fingerprint = base_fingerprint(base)
    lora = LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM", base_model_name_or_path="tester/base")
    model = get_peft_model(base, lora)
    model.peft_config["default"].base_model_name_or_path = "tester/base"
    save_model(tmp_path / "adapter", model, tokenizer)
    save_adapter_files(tmp_path / "adapter", model, fingerprint)
    (tmp_path / "client.py").write_text(textwrap.dedent(_CLIENT))
    with HubServer(tmp_path / "hub") as hub:
        done = run_python(str(tmp_path / "client.py"), str(tmp_path), env=hub.env())
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert found["kind"] == "PeftModelForCausalLM" and "belongs to another base model" in found["refused"]
