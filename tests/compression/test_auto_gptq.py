"""auto-gptq 0.7.1 loads what `save_gptq` writes, in an environment of its own with transformers 4.46.

That environment has the torch of this one, through a `.pth` file, and older libraries before it; CUDA kernels are not
built.
"""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import torch
from tiny import tiny_model
from transformers import AutoModelForCausalLM

from hf_reason.compression import quantize_gptq, save_gptq
from hf_reason.compression.gptq import dequantize
from hf_reason.compression.older_readers import write_for_older_readers

SIZES = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2}
TEXT = "<|user|>小明有3个苹果，1+1=2, how many?\n"
OLD = (
    "auto-gptq==0.7.1",
    "transformers==4.46.3",
    "tokenizers==0.20.3",
    "huggingface_hub==0.36.0",
    "peft==0.13.2",
    "accelerate==1.1.1",
    "datasets==3.1.0",
    "sentencepiece",
    "rouge",
    "gekko",
)
LOAD = """
import os
import sys
import torch
from auto_gptq import AutoGPTQForCausalLM
from transformers import AutoTokenizer, __version__

assert __version__.startswith("4.46"), __version__
text, *folders = sys.argv[1:]
for folder in folders:
    model = AutoGPTQForCausalLM.from_quantized(folder, device="cpu", use_safetensors=True)
    ids = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        logits = model(input_ids=ids).logits.float()
    found = {"ids": ids, "logits": logits, "theta": model.model.config.rope_theta}
    found["packed"] = sum(type(module).__name__ == "QuantLinear" for module in model.modules())
    torch.save(found, os.path.basename(folder) + ".pt")
"""


@pytest.fixture(scope="module")
def auto_gptq(tmp_path_factory) -> str:
    """The Python of an environment with auto-gptq; the test is skipped where pip cannot make it."""
    pytest.importorskip("gptqmodel")
    folder = tmp_path_factory.mktemp("auto_gptq") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, timeout=100)
    python = str(folder / "bin" / "python")
    where = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], capture_output=True, text=True
    ).stdout.strip()
    libraries = dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    Path(where, "libraries.pth").write_text("\n".join(libraries) + "\n")
    options = ("--no-build-isolation", "--no-deps", "--ignore-installed", "--retries", "1")
    done = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", *options, *OLD],
        capture_output=True,
        text=True,
        timeout=200,
        env=_environment(BUILD_CUDA_EXT="0"),
    )
    if done.returncode:
        pytest.skip(f"pip cannot install auto-gptq here: {done.stderr.strip().splitlines()[-1][:200]}")
    return python


def _environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    return {**kept, "TOKENIZERS_PARALLELISM": "false", **more}


LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}


KINDS = {
    "qwen2-4": ("qwen2", 4, {}, {"rope_type": "default"}),
    "qwen2-3": ("qwen2", 3, {}, {"rope_type": "default"}),
    "llama-4": ("llama", 4, {"desc_act": True}, LLAMA3),
    "llama-8": ("llama", 8, {"group_size": -1}, {"rope_type": "linear", "factor": 4.0}),
    "mistral-2": ("mistral", 2, {"sym": False}, {"rope_type": "default"}),
}


@pytest.fixture(scope="module")
def quantised(_session_tokenizer, tmp_path_factory):
    """A folder with a quantised model for each of `KINDS`."""
    pytest.importorskip("gptqmodel")
    place, tokenizer = tmp_path_factory.mktemp("quantised"), _session_tokenizer
    generator = torch.Generator().manual_seed(0)
    examples = [{"input_ids": torch.randint(5, 300, (24,), generator=generator).tolist()} for _ in range(8)]
    for name, (kind, bits, options, rope) in KINDS.items():
        # transformers 4 misses a base that is not at the top level, and with it the scaling
        model = tiny_model(tokenizer, kind, **SIZES, rope_parameters={**rope, "rope_theta": 500.0}).eval()
        with torch.no_grad():  # attention that looks somewhere, and logits as far from uniform as a trained model's
            for layer in model.model.layers:
                layer.self_attn.q_proj.weight.mul_(20)
                layer.self_attn.k_proj.weight.mul_(20)
            model.lm_head.weight.mul_(20)
        folder = place / name
        folder.mkdir()
        save_gptq(quantize_gptq(model, examples, bits=bits, **{"group_size": 32, **options}), folder)
        tokenizer.save_pretrained(folder)
        write_for_older_readers(folder)
    return place


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_auto_gptq_gives_the_same_logits(auto_gptq, quantised, _session_tokenizer, tmp_path):
    (tmp_path / "load.py").write_text(LOAD)
    command = [auto_gptq, "-W", "ignore", str(tmp_path / "load.py"), TEXT, *(str(quantised / name) for name in KINDS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, cwd=tmp_path, env=_environment())
    assert done.returncode == 0, done.stderr[-3000:]
    for name in KINDS:
        theirs = torch.load(tmp_path / f"{name}.pt")
        assert theirs["theta"] == 500.0 and theirs["packed"] == 14
        assert theirs["ids"].tolist() == [_session_tokenizer(TEXT)["input_ids"]]
        # as numbers: gptqmodel's kernel of 4 bits on a CPU rounds more than auto-gptq's does
        ours = dequantize(AutoModelForCausalLM.from_pretrained(quantised / name, dtype=torch.float32)).eval()
        with torch.no_grad():
            logits = ours(theirs["ids"]).logits
        difference = (theirs["logits"] - logits).abs().max()
        print(f"{name}: {difference:.2g} of {logits.abs().max():.3g}")
        assert difference < 0.02 * logits.abs().max(), name  # auto-gptq computes in half precision
        assert (theirs["logits"].argmax(-1) == logits.argmax(-1)).float().mean() > 0.9, name
