"""Instruction templates: what they write, files, bad input, and that a trained model carries its own."""

import copy

import pytest
from datasets import Dataset

from hf_reason.data.record import DOMAINS
from hf_reason.text import build_prompt, encode, load_instructions, saved_instructions, template_hash
from hf_reason.text.instructions import INSTRUCTIONS_FILE, save_instructions
from hf_reason.text.render import user_text

RECORD = {"context": "利率{上调}", "task": "判断影响", "domain": "finance"}


def test_fields_are_filled_in_and_what_a_template_leaves_out_follows():
    assert user_text(RECORD, {"finance": "作为分析师,{task}:{context}"}) == "作为分析师,判断影响:利率{上调}"
    assert (
        user_text(RECORD, {"finance": "作为{domain}专家,{context}。"})
        == "作为finance专家,利率{上调}。\n推理要求:判断影响"
    )
    assert user_text(RECORD, {"finance": "作为分析师,"}) == "作为分析师,利率{上调}\n推理要求:判断影响"
    assert user_text(RECORD, {"legal": "x"}) == user_text(RECORD) == "利率{上调}\n推理要求:判断影响"
    assert user_text(RECORD, {"legal": "x", "default": "请{context}"}) == "请利率{上调}\n推理要求:判断影响"
    assert user_text(RECORD, {"finance": "{{a}}"}) == "{a}利率{上调}\n推理要求:判断影响"


def test_built_in_templates_name_every_domain():
    built_in = load_instructions("default")
    assert set(built_in) == set(DOMAINS)
    texts = {user_text({**RECORD, "domain": domain}, built_in) for domain in DOMAINS}
    assert len(texts) == len(DOMAINS) and all("利率{上调}" in text for text in texts)
    assert load_instructions(None) == {}


def test_training_and_evaluation_prompt_alike_and_the_hash_tells(tokenizer, records):
    built_in = load_instructions("default")
    prompt = build_prompt(records[0], tokenizer, instructions=built_in)
    ids = encode(records[0], tokenizer, instructions=built_in)
    assert ids["input_ids"][: ids["segment_ids"].index(1)] == tokenizer(prompt, add_special_tokens=False)["input_ids"]
    hashes = {template_hash(tokenizer, it) for it in (None, built_in, {**built_in, "math": "{context}"})}
    assert len(hashes) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("finance: '分析{question}'", "finance has the field question.*context, task, domain"),
        ("finance: '分析{}'", "has the field"),
        ("finance: '分析{context'", "template of finance"),
        ("magic: x", "no domain 'magic'"),
        ("finance: 3", "not text"),
        ("- finance", "is list"),
        ("finance: [", "not YAML"),
    ],
)
def test_a_bad_file_is_refused_by_name(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message) as error:
        load_instructions(path)
    assert "mine.yaml" in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"no file .*nothing\.yaml.*'default'"):
        load_instructions(tmp_path / "nothing.yaml")


def test_a_trained_model_carries_its_templates(tmp_path, tiny_model, tokenizer, records):
    from hf_reason.trainers import CoTSFTConfig, CoTSFTTrainer

    mine = {"math": "作为数学老师,{context}"}
    args = CoTSFTConfig(
        str(tmp_path),
        max_steps=1,
        use_cpu=True,
        bf16=False,
        report_to="none",
        disable_tqdm=True,
        save_steps=1,
        gradient_checkpointing=False,
    )
    data = Dataset.from_list(records)
    trainer = CoTSFTTrainer(
        copy.deepcopy(tiny_model), args, train_dataset=data, processing_class=tokenizer, instructions=mine
    )
    assert "作为数学老师," in tokenizer.decode(trainer.train_dataset[0]["input_ids"])
    trainer.train()
    trainer.save_model()
    assert saved_instructions(str(tmp_path)) == saved_instructions(str(tmp_path / "checkpoint-1")) == mine
    with pytest.raises(ValueError, match="has the field steps"):
        CoTSFTTrainer(
            copy.deepcopy(tiny_model),
            args,
            train_dataset=data,
            processing_class=tokenizer,
            instructions={"math": "{steps}"},
        )


def test_a_model_without_templates_has_none(tmp_path):
    assert saved_instructions(str(tmp_path)) == {}
    save_instructions(tmp_path, {"math": "算:{context}"})
    assert (tmp_path / INSTRUCTIONS_FILE).read_text("utf-8") == "math: 算:{context}\n"
    assert [path.name for path in tmp_path.iterdir()] == [INSTRUCTIONS_FILE]
