"""Chains from models of other types: greedy is the model's own, a batch is its rows, budgets and caches hold."""

import pytest
import torch
from chat_templates import R1_PREFILL_TEMPLATE
from tiny import tiny_model

from hf_reason import evaluate_model, generate_cot
from hf_reason.generation import generate_ids, generation_config
from hf_reason.text import encode_prompt

TYPES = ("qwen2", "mistral", "gemma2", "gemma3_text", "qwen2_moe", "opt", "falcon", "mamba")
MORE = ("qwen3", "llama", "bloom", "falcon_alibi", "gpt_neox", "gpt2", "phi3", "mamba2", "qwen3_moe", "mpt")
QUESTIONS = ["小明有12个苹果,又买来25个,卖出8个。现在有多少个?", "3+4=?", "乙有9元。用去4元,还剩几元?"]
BUDGETS = {"max_thought_tokens": 10, "max_answer_tokens": 3}


@pytest.fixture(params=[*TYPES, *(pytest.param(kind, marks=pytest.mark.slow) for kind in MORE)])
def model(request, tokenizer):
    """Sharp enough for outputs that differ, and for rounding to change none of them."""
    return tiny_model(tokenizer, request.param, initializer_range=0.4).eval()


def test_greedy_is_the_models_own_token_by_token(model, tokenizer):
    prompts = [encode_prompt({"context": question}, tokenizer) for question in QUESTIONS]
    config = generation_config(model, tokenizer, max_new_tokens=12)
    written = [samples[0] for samples in generate_ids(model, prompts, config, batch_size=3)]
    for prompt, ids in zip(prompts, written, strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([prompt + ids]), use_cache=False).logits[0, len(prompt) - 1 :]
        assert logits.argmax(dim=-1)[: len(ids)].tolist() == ids
    plain = model.generate(torch.tensor(prompts[1:2]), max_new_tokens=12, do_sample=False, pad_token_id=0)
    assert plain[0, len(prompts[1]) : len(prompts[1]) + len(written[1])].tolist() == written[1]


def test_a_batch_is_its_rows_and_a_cache_changes_nothing(model, tokenizer):
    together = generate_cot(model, tokenizer, QUESTIONS, **BUDGETS)
    assert together == [generate_cot(model, tokenizer, question, **BUDGETS)[0] for question in QUESTIONS]
    assert together == generate_cot(model, tokenizer, QUESTIONS, generation_kwargs={"use_cache": False}, **BUDGETS)
    assert len({output.thought for output in together}) > 1
    for output in together:
        assert output.closed_by in ("budget", "stop") and output.thought_tokens <= 10 and output.answer_tokens <= 3


def test_a_thought_that_the_template_opens(model, tokenizer):
    """Up to the closing tag the tokens are those of plain generate, of which no stop token is chosen."""
    tokenizer.chat_template = R1_PREFILL_TEMPLATE
    (output,) = generate_cot(model, tokenizer, QUESTIONS[0], **BUDGETS)
    stops = generation_config(model, tokenizer, max_new_tokens=1).eos_token_id
    prompt = torch.tensor([encode_prompt({"context": QUESTIONS[0]}, tokenizer)])
    plain = model.generate(prompt, max_new_tokens=10, do_sample=False, suppress_tokens=stops, pad_token_id=0)
    text = tokenizer.decode(plain[0, prompt.shape[1] :], skip_special_tokens=False)
    assert text.strip().startswith(output.thought.rstrip("\ufffd")) or output.closed_by == "stop"
    records = [{"context": question, "steps": [], "answer": ""} for question in QUESTIONS]
    limits = {"max_completion_length": 13, "max_thought_tokens": 10, "progress": False, "return_predictions": True}
    result = evaluate_model(model, tokenizer, records, **limits)
    assert result.predictions[0]["answer"] == output.answer
