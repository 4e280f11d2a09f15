"""A saved StepReasoner carries its code: people without hf_reason load it with trust_remote_code, and only so."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hub_server import HubServer

# The stranger: hf_reason cannot be imported here, from wherever it is installed.
STRANGER = """
import json, sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "hf_reason":
            raise ModuleNotFoundError(f"{name} is not installed here", name=name)
sys.meta_path.insert(0, Blocker())
try:
    import hf_reason
    raise SystemExit("hf_reason was meant to be out of reach")
except ModuleNotFoundError:
    pass
import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer
name, text, *base = sys.argv[1:]
out = {"refused": []}
for auto in (AutoConfig, AutoModel, AutoModelForCausalLM):
    for options in ({}, {"trust_remote_code": False}):
        try:
            auto.from_pretrained(name, **options)
        except ValueError as error:
            out["refused"].append("trust_remote_code" in str(error))
assert not any(module.startswith("transformers_modules.") for module in sys.modules)
tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
out["tokenizer"] = type(tokenizer).__name__
out["config"] = AutoConfig.from_pretrained(name, trust_remote_code=True).to_dict()
model = AutoModelForCausalLM.from_pretrained(name, trust_remote_code=True, dtype=torch.float64)
batch = tokenizer(text, return_tensors="pt", return_token_type_ids=False)
out["module"] = type(model).__module__
out["ids"] = batch.input_ids.tolist()
out["logits"] = model(**batch).logits.tolist()
for cache in (True, False):
    options = dict(max_new_tokens=12, do_sample=False, use_cache=cache, eos_token_id=None)
    out["generated" if cache else "without cache"] = model.generate(**batch, **options).tolist()
# each Auto class takes the folder of the other
bodies = [AutoModel.from_pretrained(folder, trust_remote_code=True, dtype=torch.float64) for folder in (name, *base)]
bodies += [AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, dtype=torch.float64).model
           for folder in base]
out["bodies"] = [type(body).__name__ for body in bodies]
expected = model.model(**batch).last_hidden_state
assert all(torch.equal(body(**batch).last_hidden_state, expected) for body in bodies)
out["hf_reason"] = [module for module in sys.modules if module.startswith("hf_reason")]
print("\\n" + json.dumps(out, default=str))  # a prompt may stand on the line
"""

# Somebody with hf_reason pushes and loads again: no trust_remote_code needed, nobody asked.
PUSH = """
import json, sys
import hf_reason, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, name, text = sys.argv[1:]
for auto, options in ((AutoModelForCausalLM, {"max_shard_size": "20KB"}), (AutoTokenizer, {})):
    auto.from_pretrained(folder).push_to_hub(name, **options)
model = AutoModelForCausalLM.from_pretrained(name, dtype=torch.float64)
batch = AutoTokenizer.from_pretrained(name)(text, return_tensors="pt", return_token_type_ids=False)
print(json.dumps({"local": type(model) is hf_reason.StepReasonerForCausalLM, "logits": model(**batch).logits.tolist(),
                  "remote": [module for module in sys.modules if module.startswith("transformers_modules.")]}))
"""

TEXT = "小明有3个苹果，又买了4个<think>\n3+4=7\n7+"
PARTS = (
    *("cache", "configuration", "conversion", "decoding", "generating", "inputs", "layers", "layout", "masks"),
    *("modeling", "stacks"),
)
CODE = {f"{part}_step_reasoner.py" for part in PARTS}


def _client(script: str, *arguments: str, env: dict[str, str], cwd: Path) -> dict:
    """The last line that a fresh process prints, as JSON; it stands elsewhere and nobody answers its questions."""
    env = {name: value for name, value in env.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=env,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def model(text_model):
    return text_model(num_decoder_layers=1)


@pytest.fixture
def saved(model, tokenizer, tmp_path) -> Path:
    model.save_pretrained(tmp_path / "saved")
    tokenizer.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


@pytest.fixture
def expected(model, tokenizer) -> dict:
    model = model.double()
    batch = tokenizer(TEXT, return_tensors="pt", return_token_type_ids=False)
    generated = model.generate(**batch, max_new_tokens=12, do_sample=False, eos_token_id=None)
    return {"ids": batch.input_ids.tolist(), "logits": model(**batch).logits, "generated": generated.tolist()}


def _check_stranger(out: dict, expected: dict, tokenizer) -> None:
    import torch

    assert out["refused"] == [True] * 6, "without trust_remote_code it has to be refused"
    assert out["module"].startswith("transformers_modules.") and out["hf_reason"] == []
    assert set(out["bodies"]) == {"StepReasonerModel"}
    assert out["tokenizer"] == type(tokenizer).__name__ and out["ids"] == expected["ids"]
    assert out["config"]["model_type"] == "step_reasoner" and out["config"]["plan_slots"] == 1
    torch.testing.assert_close(torch.tensor(out["logits"], dtype=torch.float64), expected["logits"])
    assert out["generated"] == out["without cache"] == expected["generated"]


@pytest.mark.timeout(180)
def test_a_folder_is_enough_without_hf_reason(model, saved, expected, tokenizer, tmp_path):
    assert {path.name for path in saved.glob("*.py")} == CODE
    model.model.float().save_pretrained(tmp_path / "base")
    env = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HOME": str(tmp_path / "home")}
    out = _client(STRANGER, str(saved), TEXT, str(tmp_path / "base"), env=env, cwd=tmp_path)
    assert len(out["bodies"]) == 3
    _check_stranger(out, expected, tokenizer)


@pytest.mark.parametrize("part", ["causal", "base"])
def test_model_and_config_carry_their_code(model, tmp_path, part):
    (model if part == "causal" else model.model).save_pretrained(tmp_path / "saved")
    assert {path.name for path in (tmp_path / "saved").glob("*.py")} == CODE
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["auto_map"] == {
        "AutoConfig": "configuration_step_reasoner.StepReasonerConfig",
        "AutoModel": "modeling_step_reasoner.StepReasonerModel",
        "AutoModelForCausalLM": "modeling_step_reasoner.StepReasonerForCausalLM",
    }
    model.config.save_pretrained(tmp_path / "config")
    assert {path.name for path in (tmp_path / "config").glob("*.py")} == {"configuration_step_reasoner.py"}


# slow, as the folder alone is covered above
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_pushed_to_a_hub_and_back(saved, expected, tokenizer, tmp_path):
    import torch

    with HubServer(tmp_path / "hub") as hub:
        pushed = _client(PUSH, str(saved), "tester/step", TEXT, env=hub.env("member"), cwd=tmp_path)
        files = set(hub.files("tester/step"))
        assert files >= CODE | {"config.json", "tokenizer.json", "model.safetensors.index.json"}
        loaded = _client(STRANGER, "tester/step", TEXT, env=hub.env("stranger"), cwd=tmp_path)
    assert pushed["local"] and pushed["remote"] == []
    torch.testing.assert_close(torch.tensor(pushed["logits"], dtype=torch.float64), expected["logits"])
    _check_stranger(loaded, expected, tokenizer)
