"""llama.cpp itself runs the GGUF files: ids, chat template and log-probabilities are those of transformers.

llama.cpp comes from the wheel of xllamacpp, in an environment of its own.
"""

import json
import subprocess
import sys

import pytest
import torch
from tiny import tiny_model

from hf_reason.compression import write_gguf
from hf_reason.compression.gguf_check import TEXTS

SERVE = """
import json, sys, urllib.request
import xllamacpp

path, wanted = sys.argv[1], json.loads(sys.argv[2])
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.n_parallel, params.warmup, params.n_gpu_layers = path, 256, 1, False, 0
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
server = xllamacpp.Server(params)

def post(route, **body):
    data = json.dumps(body).encode()
    request = urllib.request.Request(server.listening_address + route, data, {"Content-Type": "application/json"})
    return json.load(urllib.request.urlopen(request, timeout=60))

answer = post("/completion", prompt=wanted["ids"], n_predict=1, n_probs=5000, temperature=0.0, cache_prompt=False)
found = answer["completion_probabilities"][0]["top_logprobs"]
print(json.dumps({
    "ids": [post("/tokenize", content=text, parse_special=True)["tokens"] for text in wanted["texts"]],
    "prompt": post("/apply-template", messages=wanted["messages"])["prompt"],
    "logprobs": {item["id"]: item["logprob"] for item in found},
}))
sys.stdout.flush()
import os
os._exit(0)
"""
SIZES = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}


@pytest.fixture(scope="module")
def llama_cpp(tmp_path_factory) -> str:
    """The Python of an environment with llama.cpp; the test is skipped where pip cannot make it."""
    pytest.importorskip("gguf")
    folder = tmp_path_factory.mktemp("llama_cpp") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, timeout=100)
    python = str(folder / "bin" / "python")
    options = ("--quiet", "--only-binary", ":all:", "--retries", "1", "--no-deps")
    done = subprocess.run(
        [python, "-m", "pip", "install", *options, "xllamacpp==2026.10.11549", "numpy"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    if done.returncode:
        pytest.skip(f"pip cannot install xllamacpp here: {done.stderr.strip().splitlines()[-1][:200]}")
    return python


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "kind, outtype, more",
    [
        ("qwen2", "f32", {"tie_word_embeddings": True}),
        ("qwen2", "q8_0", {"rope": YARN}),
        ("qwen3", "f16", {"head_dim": 8}),
        ("llama", "f32", {"attention_bias": True, "rope": LLAMA3}),
        ("llama", "q4_0", {"rope": {"rope_type": "linear", "factor": 4.0}}),
        ("mistral", "f32", {"head_dim": 32, "sliding_window": None}),
    ],
)
def test_llama_cpp_computes_the_same(llama_cpp, tokenizer, tmp_path, kind, outtype, more):
    rope = {"rope_theta": 500.0, **more.get("rope", {"rope_type": "default"})}
    sizes = SIZES | {name: value for name, value in more.items() if name != "rope"}
    model = tiny_model(tokenizer, kind, rope_parameters=rope, **sizes).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():  # attention that looks somewhere, outputs that differ
            parameter.mul_(6 if name.endswith(("q_proj.weight", "k_proj.weight")) else 1)
            parameter.add_(torch.randn_like(parameter) * (0.1 if parameter.ndim == 1 else 0.0))
    write_gguf(model, tokenizer, tmp_path / "m.gguf", outtype)
    ids = torch.randint(5, len(tokenizer), (100,), generator=torch.Generator().manual_seed(1))
    messages = [{"role": "user", "content": "1+1=?"}]
    texts = [*TEXTS, "<|user|>1+1=2\n<think>\n\n3</think> 答案"]
    wanted = json.dumps({"ids": ids.tolist(), "texts": texts, "messages": messages})
    (tmp_path / "serve.py").write_text(SERVE)
    command = [llama_cpp, str(tmp_path / "serve.py"), str(tmp_path / "m.gguf"), wanted]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["ids"] == [tokenizer(text)["input_ids"] for text in texts]
    assert found["prompt"] == tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    with torch.no_grad():
        expected = model(ids[None]).logits[0, -1].log_softmax(-1)
    assert len(found["logprobs"]) == len(tokenizer)
    theirs = torch.tensor([found["logprobs"][str(token)] for token in range(len(tokenizer))])
    assert (theirs - expected).abs().max() < {"f32": 1e-3, "f16": 2e-3, "q8_0": 0.05, "q4_0": 0.2}[outtype]
