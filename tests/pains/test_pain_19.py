"""Pain 19, huggingface/open-r1#97, #242, #655: scores do not reproduce."""

import pytest
from tokenizers.processors import TemplateProcessing

from hf_reason.evaluation import evaluate_model
from hf_reason.text import build_prompt, encode, encode_prompt, template_hash
from hf_reason.text.conversation import build_conversation


@pytest.fixture
def llama_like(tokenizer):
    """A tokenizer that adds a BOS by itself, and whose template writes one."""
    tokenizer.add_special_tokens({"bos_token": "<|begin|>"})
    tokenizer.chat_template = "{{ bos_token }}" + tokenizer.chat_template
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|begin|> $A", special_tokens=[("<|begin|>", tokenizer.bos_token_id)]
    )
    return tokenizer


def test_the_plain_way_evaluates_with_a_second_bos(llama_like, records):
    turn = [{"role": "user", "content": records[0]["context"]}]
    text = llama_like.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
    assert llama_like(text)["input_ids"].count(llama_like.bos_token_id) == 2


def test_one_builder_makes_the_prompts_of_training_evaluation_and_serving(llama_like, records):
    record = {**records[0], "task": ""}
    trained = encode(record, llama_like)
    prompt = trained["input_ids"][: trained["labels"].count(-100)]
    assert prompt.count(llama_like.bos_token_id) == 1
    assert prompt == encode_prompt(record, llama_like)
    served = build_conversation([{"role": "user", "content": record["context"]}], llama_like)
    assert served == build_prompt(record, llama_like)


def test_the_report_says_what_is_needed_to_compare(tiny_model, tokenizer, records):
    tiny_model.resize_token_embeddings(len(tokenizer))
    options = {"max_completion_length": 8, "num_samples": 2, "temperature": 0.8, "progress": False}
    runs = [
        evaluate_model(
            tiny_model, tokenizer, records[:3], seed=seed, batch_size=size, return_predictions=True, **options
        )
        for seed, size in ((0, 4), (0, 4), (1, 4))
    ]
    texts = [[row["text"] for row in run.predictions] for run in runs]
    assert texts[0] == texts[1] != texts[2]
    low, high = runs[0]["answer_accuracy_ci"]
    assert low <= runs[0]["answer_accuracy"] <= high and (runs[0]["num_samples"], runs[0]["seed"]) == (2, 0)
    assert runs[0]["template_hash"] == template_hash(tokenizer)
    tokenizer.chat_template = tokenizer.chat_template.replace("'|>'", "'|>\\n'")
    assert runs[0]["template_hash"] != template_hash(tokenizer)
