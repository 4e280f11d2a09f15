"""Both modes of hybrid models, by the switch of each template (pain 3; LLaMA-Factory#9765)."""

import pytest
from chat_templates import (
    DEEPSEEK_V3_1_TEMPLATE,
    GLM_4_5_TEMPLATE,
    GRANITE_TEMPLATE,
    HYBRID_TEMPLATE,
    QWEN2_5_TEMPLATE,
    QWEN3_5_TEMPLATE,
    QWEN3_TEMPLATE,
    R1_PREFILL_TEMPLATE,
    R1_TEMPLATE,
)

from hf_reason.text import add_thinking_switch, build_prompt, check_round_trip, encode, has_switch, parse, render
from hf_reason.text.conversation import build_conversation
from hf_reason.text.modes import check_modes

HYBRID = {
    "qwen3": (QWEN3_TEMPLATE, "<|im_start|>assistant\n", "<think>\n\n</think>\n\n"),
    "qwen3.5": (QWEN3_5_TEMPLATE, "<|im_start|>assistant\n<think>\n", "<think>\n\n</think>\n\n"),
    "deepseek-v3.1": (DEEPSEEK_V3_1_TEMPLATE, "<｜Assistant｜><think>", "<｜Assistant｜></think>"),
    "glm-4.5": (GLM_4_5_TEMPLATE, "<|assistant|>", "\n<think></think>"),
    "short": (HYBRID_TEMPLATE, "<|assistant|>", "<think>\n\n</think>\n\n"),
}
NO_SWITCH = {"qwen2.5": QWEN2_5_TEMPLATE, "r1": R1_TEMPLATE, "r1-prefill": R1_PREFILL_TEMPLATE}


@pytest.mark.parametrize("name", HYBRID)
def test_each_mode_has_the_prompt_that_the_template_writes(tokenizer, records, name):
    template, thinking, answering = HYBRID[name]
    tokenizer.chat_template = template
    direct = {**records[0], "steps": []}
    with_chain, without = render(records[0], tokenizer), render(direct, tokenizer)
    assert with_chain["prompt"].endswith(thinking) and without["prompt"].endswith(answering)
    # the model reads one opening and one closing tag, and the empty thought is never its own writing
    whole = "".join(with_chain.values())
    assert whole.count("<think>") == whole.count("</think>") == 1
    assert parse(with_chain["completion"]).steps == records[0]["steps"]
    assert without["completion"] == direct["answer"]
    check_round_trip(tokenizer)


@pytest.mark.parametrize("name", HYBRID)
def test_no_loss_falls_on_what_the_template_injects(tokenizer, records, name):
    tokenizer.chat_template = HYBRID[name][0]
    encoded = encode({**records[0], "steps": []}, tokenizer)
    trained = [token for token, label in zip(encoded["input_ids"], encoded["labels"], strict=True) if label >= 0]
    assert tokenizer.decode(trained[:-1]) == records[0]["answer"]
    prompt = [token for token, part in zip(encoded["input_ids"], encoded["segment_ids"], strict=True) if not part]
    assert "</think>" in tokenizer.decode(prompt)


@pytest.mark.parametrize("name", HYBRID)
def test_a_conversation_asks_in_the_mode_that_was_trained(tokenizer, records, name):
    tokenizer.chat_template = HYBRID[name][0]
    for thinking in (True, False):
        turns = [{"role": "user", "content": records[0]["context"]}]
        asked = build_conversation(turns, tokenizer, thinking=thinking, task=records[0]["task"])
        assert asked == build_prompt(records[0], tokenizer, thinking=thinking)


def test_the_mode_stands_in_the_user_turn_too(tokenizer, records):
    tokenizer.chat_template = GLM_4_5_TEMPLATE
    assert "/nothink" in build_prompt(records[0], tokenizer, thinking=False)
    assert "/nothink" not in build_prompt(records[0], tokenizer)
    tokenizer.chat_template = GRANITE_TEMPLATE
    assert build_prompt(records[0], tokenizer).startswith("<|system|>Think first.")
    assert build_prompt(records[0], tokenizer, thinking=False).startswith("<|system|>Answer.")
    assert has_switch(tokenizer)


def test_the_plain_form_closes_the_thought_itself(records):
    direct = render({**records[0], "steps": []})
    assert direct["prompt"].endswith("\n回答:<think>\n\n</think>\n\n") and direct["completion"] == records[0]["answer"]
    assert has_switch(None)


@pytest.mark.parametrize("name", [*HYBRID, *NO_SWITCH])
def test_which_templates_have_a_switch(tokenizer, name):
    assert has_switch(tokenizer)  # that of tokenizers made here
    tokenizer.chat_template = HYBRID[name][0] if name in HYBRID else NO_SWITCH[name]
    assert has_switch(tokenizer) == (name in HYBRID)


@pytest.mark.parametrize("name", NO_SWITCH)
def test_modes_under_one_prompt_are_refused_until_there_is_a_switch(tokenizer, records, name):
    tokenizer.chat_template = NO_SWITCH[name]
    check_modes(5, 0, tokenizer, "training")
    check_modes(0, 5, tokenizer, "training")
    with pytest.raises(ValueError, match=r"^1 of 4 training records \(25.0%\) have no chain.*add_thinking_switch"):
        check_modes(3, 1, tokenizer, "training")
    before = build_prompt(records[0], tokenizer)
    assert add_thinking_switch(tokenizer) and not add_thinking_switch(tokenizer)
    check_modes(3, 1, tokenizer, "training")
    assert build_prompt(records[0], tokenizer) == before
    direct = render({**records[0], "steps": []}, tokenizer)
    assert direct["prompt"].startswith(before) and direct["prompt"].endswith("<think>\n\n</think>\n\n")
    assert direct["completion"] == records[0]["answer"]
    # other programs ask by the switch's usual name, and a history without a question at its end stays as it is
    turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]
    options = {"tokenize": False, "enable_thinking": False}
    written = tokenizer.apply_chat_template(turns[:1], add_generation_prompt=True, **options)
    assert written.endswith("</think>\n\n")
    assert "</think>" not in tokenizer.apply_chat_template(turns, **options)
    check_round_trip(tokenizer)


def test_a_switch_is_saved_with_the_tokenizer(tokenizer, tmp_path):
    from transformers import AutoTokenizer

    tokenizer.chat_template = QWEN2_5_TEMPLATE
    add_thinking_switch(tokenizer)
    tokenizer.save_pretrained(tmp_path)
    assert has_switch(AutoTokenizer.from_pretrained(tmp_path))


def test_a_processor_gets_the_switch_in_its_own_template(tokenizer):
    class Processor:
        image_processor = object()

        def __init__(self, tokenizer, chat_template):
            self.tokenizer, self.chat_template = tokenizer, chat_template

    tokenizer.chat_template = QWEN2_5_TEMPLATE
    processor = Processor(tokenizer, QWEN2_5_TEMPLATE.replace("message.role", "message['role']"))
    assert add_thinking_switch(processor) and not add_thinking_switch(processor)
    assert has_switch(tokenizer) and "['role']" not in tokenizer.chat_template
    assert "enable_thinking" in processor.chat_template and "['role']" in processor.chat_template


def test_a_template_that_cannot_be_given_a_switch_stays_as_it_is(tokenizer):
    for template, message in (
        ("{% set enable_thinking = true %}" + QWEN2_5_TEMPLATE, "could not be given a switch"),
        (
            R1_TEMPLATE.replace("%}<|assistant|>{% endif %}", "%}<think>\n\n</think>\n\n{% endif %}"),
            "closes the thought",
        ),
    ):
        tokenizer.chat_template = template
        with pytest.raises(ValueError, match=message):
            add_thinking_switch(tokenizer)
        assert tokenizer.chat_template == template
