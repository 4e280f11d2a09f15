"""What `quantize` and `prune` make is served with the answers that the same folder gives without a server."""

import http.client
import json

import pytest
from serving_server import serving
from tiny import save_model, tiny_qwen2
from transformers import AutoModelForCausalLM

from hf_reason import generate_cot
from hf_reason.cli.serve import ServeArguments, make_app
from hf_reason.compression import prune_weights, quantize_bnb
from hf_reason.serving.keys import ApiKeys

PROBLEM = "小明有12个苹果,又买来25个。现在有多少个?"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["nf4", "int8", "gptq", "pruned"])
def test_compressed_models_are_served(kind, tokenizer, records, tmp_path):
    model = tiny_qwen2(tokenizer, hidden_size=64, intermediate_size=128)
    folder = tmp_path / kind
    if kind == "gptq":
        pytest.importorskip("gptqmodel")
        from hf_reason.compression import quantize_gptq, save_gptq
        from hf_reason.text import encode

        save_gptq(quantize_gptq(model, [encode(row, tokenizer) for row in records[:4]], group_size=32), folder)
    elif kind == "pruned":
        prune_weights(model, 0.5)
        model.save_pretrained(folder)
    else:
        quantize_bnb(save_model(tmp_path / "whole", model, tokenizer), kind).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    arguments = ServeArguments(model_name_or_path=[str(folder)], output_dir=str(tmp_path / "out"), use_cpu=True)
    with serving(make_app(arguments, ApiKeys())) as url:
        host = http.client.HTTPConnection(url.removeprefix("http://"), timeout=120)
        body = {"messages": [{"role": "user", "content": PROBLEM}], "max_thinking_tokens": 16, "max_tokens": 24}
        host.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        answer = host.getresponse()
        served = json.loads(answer.read())
        assert answer.status == 200, served
    message = served["choices"][0]["message"]
    assert message["content"] and message["reasoning_content"]
    alone = AutoModelForCausalLM.from_pretrained(folder)
    (output,) = generate_cot(alone, tokenizer, PROBLEM, max_thought_tokens=16, max_answer_tokens=8)
    assert message["reasoning_content"].strip()[:8] == output.thought.strip()[:8]
