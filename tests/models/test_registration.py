"""After `import hf_reason` transformers' Auto classes know StepReasoner, whatever was imported first."""

import importlib
import json
import os
import pickle
import subprocess
import sys

import pytest

# Each order runs in a fork of a process that has imported torch (the slow part) and neither of the two packages.
FORKS = """
import json, os, sys, traceback
import torch

def check():
    import hf_reason
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM
    sizes = dict(vocab_size=9, hidden_size=8, intermediate_size=8, num_attention_heads=2, num_encoder_layers=1,
                 num_reasoner_layers=1, num_decoder_layers=1)
    config = AutoConfig.for_model("step_reasoner", **sizes)
    assert type(config) is hf_reason.StepReasonerConfig, type(config)
    assert type(AutoModel.from_config(config)) is hf_reason.StepReasonerModel
    assert type(AutoModelForCausalLM.from_config(config)) is hf_reason.StepReasonerForCausalLM
    left = [finder for finder in sys.meta_path if type(finder).__module__.startswith("hf_reason")]
    for name, module in list(sys.modules.items()):
        values = getattr(module, "__dict__", {})
        loaders = values.get("__loader__"), getattr(values.get("__spec__"), "loader", None)
        left += [name for loader in loaders if type(loader).__module__.startswith("hf_reason")]
    assert not left, left
    # more than once: it was tried at a moment when it cannot be imported
    assert Spy.seen.count("hf_reason.models.step_reasoner.modeling_step_reasoner") == 1

class Spy:
    seen = []
    def find_spec(self, name, path=None, target=None):
        self.seen.append(name)

sys.meta_path.insert(0, Spy())
out = {}
for order in json.loads(sys.argv[1]):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            assert not {"transformers", "hf_reason"} & set(sys.modules)
            exec(order, {})
            check()
            text = "ok"
        except BaseException:
            text = traceback.format_exc()[-1500:]
        os.write(write, text.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        out[order] = pipe.read()
    os.waitpid(child, 0)
print(json.dumps(out))
"""

ORDERS = [
    # modeling_layers imports modeling_auto half-way: our modeling file cannot be imported at that moment
    "import hf_reason; from transformers import Qwen2ForCausalLM",
    "from transformers import Qwen2ForCausalLM; import hf_reason",
    # our modeling file is itself what pulls in the Auto classes
    "from hf_reason import StepReasonerForCausalLM",
]
MORE_ORDERS = [
    "import hf_reason; from transformers import AutoModelForCausalLM",
    "from transformers.models.auto import configuration_auto; import hf_reason",
    "import transformers, hf_reason",
    "import hf_reason; from transformers import pipeline",
    "from transformers import pipeline; import hf_reason",
    "import hf_reason; from trl import SFTTrainer",
    "from trl import SFTTrainer; import hf_reason",
    "import hf_reason; from transformers import Trainer",
    "import hf_reason; import peft",
    "import transformers.modeling_utils, hf_reason",
    "import hf_reason; from transformers.generation import GenerationMixin",
    "from hf_reason.models.step_reasoner import StepReasonerCache",
    "from hf_reason import CoTSFTTrainer",
]


def _python(code: str, *arguments: str, options=()) -> subprocess.CompletedProcess:
    env = {**os.environ, "PYTHONWARNINGS": "error:hf_reason could not register"}
    command = [sys.executable, *options, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


@pytest.mark.parametrize(
    "orders", [pytest.param(ORDERS, id="few"), pytest.param(MORE_ORDERS, id="more", marks=pytest.mark.slow)]
)
@pytest.mark.timeout(300)
def test_any_import_order(orders):
    results = json.loads(_python(FORKS, json.dumps(orders)).stdout.splitlines()[-1])
    assert results == dict.fromkeys(orders, "ok")


@pytest.mark.timeout(120)
def test_the_finder_changes_nothing_else():
    """While it waits: specs are found, but nothing imported; sources can be read; modules, pickled by name."""
    code = """
import importlib.util, inspect, pickle, sys
plain = importlib.util.find_spec("transformers.models.auto.configuration_auto")
import hf_reason
spec = importlib.util.find_spec("transformers.models.auto.configuration_auto")
assert spec.origin == plain.origin and spec.loader.get_source(spec.name) == plain.loader.get_source(spec.name)
assert pickle.loads(pickle.dumps(spec.loader)).get_filename(spec.name) == plain.origin
assert importlib.util.find_spec("transformers.no_such_module") is None
assert importlib.util.find_spec("hf_reason.no_such_module") is None
assert "transformers.models.auto.configuration_auto" not in sys.modules
waiting = [f for f in sys.meta_path if type(f).__module__ == "hf_reason._registration"]
hf_reason._registration.install()
assert len(waiting) == 1 == len([f for f in sys.meta_path if type(f).__module__ == "hf_reason._registration"])
from transformers.models.auto import configuration_auto, modeling_auto
assert type(configuration_auto.__loader__) is type(plain.loader) is type(configuration_auto.__spec__.loader)
assert "class AutoConfig" in inspect.getsource(configuration_auto)
assert pickle.loads(pickle.dumps(modeling_auto.AutoModel)) is modeling_auto.AutoModel
finders = list(sys.meta_path)
hf_reason._registration.install()
assert sys.meta_path == finders and waiting[0] not in finders
"""
    times = _python(code, options=("-X", "importtime")).stderr
    assert "hf_reason._registration" in times and "transformers.models.auto.auto_factory" in times


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_failure_does_not_break_transformers_and_is_told():
    """As with a version of transformers that our modeling file does not fit, or that keeps its tables elsewhere."""
    code = """
import sys
import hf_reason
sys.modules["hf_reason.models.step_reasoner.layout_step_reasoner"] = None
from transformers import AutoConfig, AutoModelForCausalLM, Qwen2ForCausalLM
config = AutoConfig.for_model("step_reasoner")
try:
    AutoModelForCausalLM.from_config(config)
    raise SystemExit("made a model")
except ImportError as error:
    assert "layout_step_reasoner" in str(error), error
del sys.modules["hf_reason.models.step_reasoner.layout_step_reasoner"]
from hf_reason import StepReasonerConfig, StepReasonerForCausalLM
assert AutoModelForCausalLM._model_mapping[StepReasonerConfig] is StepReasonerForCausalLM
"""
    _python(code)
    code = """
import sys, warnings
import hf_reason
hf_reason._registration._TYPE = []  # a key that no table takes
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from transformers import AutoModelForCausalLM, Qwen2ForCausalLM
told = [str(w.message) for w in caught if "hf_reason could not register StepReasoner" in str(w.message)]
assert len(told) == 2 and all("TypeError" in text for text in told), told
assert not [finder for finder in sys.meta_path if type(finder).__module__.startswith("hf_reason")]
"""
    _python(code)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_threads_that_import_at_the_same_time():
    """hf_reason while another thread is importing transformers; and two threads that import it after hf_reason."""
    code = """
import sys, threading, time
import torch
sys.setswitchinterval(1e-5)
def work():
    from transformers import AutoModelForCausalLM
threads = [threading.Thread(target=work) for _ in range(COUNT)]
if COUNT == 1:
    threads[0].start()
    while "transformers.models.auto.configuration_auto" not in sys.modules:
        time.sleep(0)
import hf_reason
for thread in threads:
    if COUNT > 1:
        thread.start()
for thread in threads:
    thread.join()
from transformers import AutoConfig, AutoModelForCausalLM
config = AutoConfig.for_model("step_reasoner")
assert type(config) is hf_reason.StepReasonerConfig and type(config) in AutoModelForCausalLM._model_mapping
assert "StepReasonerForCausalLM" in AutoModelForCausalLM._model_mapping._model_mapping.values()
"""
    for count in ("1", "3"):
        _python(code.replace("COUNT", count))


def test_nothing_of_the_models_is_imported_for_it():
    code = """
import sys
import hf_reason
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM
ours = [name for name in sys.modules if name.startswith("hf_reason.models.step_reasoner.")]
assert not ours and "transformers.modeling_utils" not in sys.modules, ours
"""
    _python(code)


def test_the_tables_can_be_pickled():
    from transformers import AutoModelForCausalLM

    from hf_reason import StepReasonerConfig, StepReasonerForCausalLM

    again = pickle.loads(pickle.dumps(AutoModelForCausalLM._model_mapping))
    assert again[StepReasonerConfig] is StepReasonerForCausalLM


@pytest.fixture
def folder(tmp_path, tokenizer, text_model):
    """A saved model with the project's own tokenizer; the encoder slides."""
    types = ["sliding_attention", "full_attention", "full_attention", "full_attention"]
    model = text_model(num_reasoner_layers=1, num_decoder_layers=1, layer_types=types, sliding_window=7)
    model.save_pretrained(tmp_path / "saved")
    tokenizer.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def test_auto_classes_load_the_local_code(folder, monkeypatch):
    """The folder holds code as well, but nobody is asked about it and none of it runs."""
    import torch
    from transformers import AutoModel, AutoModelForCausalLM

    from hf_reason import StepReasonerForCausalLM, StepReasonerModel

    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked whether to run the folder's code"))
    assert "auto_map" in json.loads((folder / "config.json").read_text())
    expected = StepReasonerForCausalLM.from_pretrained(folder)
    for options in ({}, {"trust_remote_code": True}):
        model = AutoModelForCausalLM.from_pretrained(folder, **options)
        assert type(model) is StepReasonerForCausalLM
        for name, value in expected.state_dict().items():
            assert torch.equal(model.state_dict()[name], value), name
        assert type(AutoModel.from_pretrained(folder, **options)) is StepReasonerModel


def test_config_round_trip(folder, tmp_path):
    from transformers import AutoConfig

    from hf_reason import StepReasonerConfig

    config = AutoConfig.from_pretrained(folder)
    assert type(config) is StepReasonerConfig
    assert config.layer_types == ["sliding_attention"] + ["full_attention"] * 3
    assert config.sliding_window == 7 and config.trigger_token_ids and config.boundary_token_ids
    config.save_pretrained(tmp_path / "again")
    again = AutoConfig.from_pretrained(tmp_path / "again")
    again._name_or_path = config._name_or_path  # where it came from counts as a field
    assert again == config and again.to_dict() == config.to_dict()
    changed = AutoConfig.from_pretrained(folder, sliding_window=8)
    assert changed != config and changed.sliding_window == 8


def test_auto_tokenizer(folder, tokenizer):
    from transformers import AutoTokenizer

    text = "小明有3个苹果<think>\n3+4=7\n</think>"
    loaded = AutoTokenizer.from_pretrained(folder)
    assert type(loaded) is type(tokenizer)
    assert loaded(text).input_ids == tokenizer(text).input_ids
    assert loaded.chat_template == tokenizer.chat_template


def test_trainer_counts_it_among_the_causal_models():
    """By name, not by class, does `Trainer` decide whether label smoothing has to shift the labels."""
    from transformers import AutoModelForCausalLM
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    from hf_reason import StepReasonerForCausalLM

    assert StepReasonerForCausalLM.__name__ in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()
    mapping = AutoModelForCausalLM._model_mapping
    assert StepReasonerForCausalLM in mapping.values() and len(mapping.keys()) == len(mapping)


def test_packages_export_the_classes():
    import hf_reason

    for package in ("hf_reason", "hf_reason.models", "hf_reason.models.step_reasoner"):
        module = importlib.import_module(package)
        for name in ("StepReasonerConfig", "StepReasonerForCausalLM", "StepReasonerModel"):
            assert getattr(module, name) is getattr(hf_reason, name)
            assert name in dir(module)
