"""Vision-language models: text with the tokenizer or the processor, images as TRL trains them."""

import copy

import pytest
import torch
from datasets import Dataset
from pictures import tiny_processor
from tiny import TINY_SIZES, logged, tiny_settings, tiny_trainer
from transformers import AutoConfig, AutoModelForImageTextToText
from trl import SFTConfig, SFTTrainer

from hf_reason.generation import generate_cot
from hf_reason.text.spans import check_round_trip, encode
from hf_reason.trainers import CoTSFTConfig, CoTSFTTrainer, DistillKLConfig, DistillKLTrainer

_VISION = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
_SQUARE = {**_VISION, "image_size": 28, "patch_size": 14}
_QWEN = {"depth": 1, "hidden_size": 16, "num_heads": 2, "patch_size": 14}
_MROPE = {"rope_parameters": {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 1e4}}
_GEMMA = {"head_dim": 8, "sliding_window": 32, "query_pre_attn_scalar": 8}
# Vision part, text part.
_PARTS = {
    "llava": ({**_SQUARE, "model_type": "clip_vision_model", "projection_dim": 16}, {"model_type": "llama"}),
    "qwen2_vl": ({**_QWEN, "embed_dim": 16, "mlp_ratio": 2}, _MROPE),
    "qwen2_5_vl": ({**_QWEN, "intermediate_size": 32, "out_hidden_size": 16, "fullatt_block_indexes": [0]}, _MROPE),
    "gemma3": (_SQUARE, _GEMMA),
    "idefics3": (_SQUARE, {"model_type": "llama"}),
    "smolvlm": (_SQUARE, {"model_type": "llama"}),
}
# As LLaVA's and SmolVLM's: a message is a list of parts; a plain text is dropped, or fails.
_TEMPLATES = {
    "llava": (
        "{% for m in messages %}{{ m['role'].upper() + ': ' }}"
        "{% for c in m['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\\n' }}{% endfor %}"
        "{% for c in m['content'] | selectattr('type', 'equalto', 'text') %}"
        "{{ c['text'] + ' ' }}{% endfor %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
    ),
    "smolvlm": (
        "{% for m in messages %}{{ m['role'] | capitalize }}{% if m['content'][0]['type'] == 'image' %}:{% else %}: "
        "{% endif %}{% for c in m['content'] %}{% if c['type'] == 'text' %}{{ c['text'] }}{% endif %}{% endfor %}"
        "<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
    ),
    "first part": (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'][0]['text'] + '<|im_end|>\n' }}"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
    "both": (
        "{% for m in messages %}{{ m['role'] }}: {% if m['content'] is string %}{{ m['content'] }}{% else %}"
        "{% for c in m['content'] %}{% if c['type'] == 'text' %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}\n"
        "{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
    ),
}


@pytest.fixture
def tokenizer(tokenizer):
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>", "<video>", "<vision>", "</vision>"]})
    return tokenizer


def _model(kind, tokenizer):
    vision, text = _PARTS[kind]
    first = len(tokenizer) - 4
    sizes = {**TINY_SIZES, "num_key_value_heads": 1, "vocab_size": len(tokenizer), "bos_token_id": None}
    text = {**sizes, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, **text}
    config = AutoConfig.for_model(
        kind,
        vision_config=vision,
        text_config=text,
        image_token_id=first,
        video_token_id=first + 1,
        vision_start_token_id=first + 2,
        vision_end_token_id=first + 3,
        image_token_index=first,
        vision_feature_layer=-1,
        scale_factor=2,
        mm_tokens_per_image=1,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    return AutoModelForImageTextToText.from_config(config)


@pytest.mark.parametrize("name", _TEMPLATES)
def test_templates_that_read_parts_get_the_text(tokenizer, records, name):
    tokenizer.chat_template = _TEMPLATES[name]
    check_round_trip(tokenizer)
    text = tokenizer.decode(encode(records[0], tokenizer)["input_ids"])
    assert records[0]["context"] in text and "步骤1:" in text


def test_a_template_that_accepts_neither_form_is_refused(tokenizer, records):
    from hf_reason.text.chat import ChatTemplateError

    tokenizer.chat_template = "{{ raise_exception('no user turns') }}"
    with pytest.raises(ChatTemplateError, match="no user turns"):
        encode(records[0], tokenizer)


def _slow_but(*fast):
    """All kinds, of which these run in every test run."""
    return [kind if kind in fast else pytest.param(kind, marks=pytest.mark.slow) for kind in _PARTS]


@pytest.mark.parametrize("kind", _slow_but("qwen2_5_vl", "gemma3"))
def test_text_is_trained_with_the_tokenizer(tmp_path, tokenizer, records, kind):
    """Padded and packed: the same loss, or refused; weighted and smoothed as well."""

    def make(packing):
        settings = {"packing": packing, "answer_weight": 2.0, "label_smoothing_factor": 0.1, "max_steps": 1}
        model, rows = _model(kind, tokenizer), records[:4]
        return tiny_trainer(CoTSFTTrainer, CoTSFTConfig, tmp_path, model, tokenizer, rows, rows, **settings)

    trainer = make(packing=False)
    padded = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert 5 < logged(trainer)[0] < 7
    if kind.startswith("qwen2"):  # whose multimodal positions hide where an example begins
        with pytest.raises(ValueError, match="does not keep packed examples apart"):
            make(packing=True)
    else:
        assert make(packing=True).evaluate()["eval_loss"] == pytest.approx(padded, abs=1e-5)


@pytest.mark.parametrize("template", [None, _TEMPLATES["llava"]])
def test_text_is_trained_with_the_processor(tmp_path, tokenizer, records, template):
    """It was an AttributeError: the processor has no eos_token_id."""
    with_tokenizer = copy.deepcopy(tokenizer)
    with_tokenizer.chat_template = template or tokenizer.chat_template
    if template:
        tokenizer.chat_template = None  # the processor alone has one
    losses = []
    for processing in (tiny_processor("llava", tokenizer, template), with_tokenizer):
        trainer = CoTSFTTrainer(
            _model("llava", tokenizer),
            CoTSFTConfig(**tiny_settings(tmp_path)),
            train_dataset=Dataset.from_list(records[:8]),
            processing_class=processing,
        )
        trainer.train()
        losses.append(logged(trainer))
        if not losses[1:]:
            trainer.save_model()
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    assert (tmp_path / "processor_config.json").is_file() and (tmp_path / "tokenizer.json").is_file()
    model = AutoModelForImageTextToText.from_pretrained(tmp_path).eval()
    assert len(generate_cot(model, with_tokenizer, records[:1], max_thought_tokens=8, max_answer_tokens=4)) == 1


def test_a_teacher_of_text(tmp_path, tokenizer, records):
    trainer = tiny_trainer(
        DistillKLTrainer,
        DistillKLConfig,
        tmp_path,
        _model("gemma3", tokenizer),
        tokenizer,
        records[:8],
        None,
        {"teacher_model": _model("gemma3", tokenizer), "teacher_tokenizer": tokenizer},
    )
    trainer.train()
    assert logged(trainer, "kl")[0] == pytest.approx(0, abs=1e-6)


def _with_images(records):
    from PIL import Image

    def turn(role, text, *images):
        return {"role": role, "content": [*images, {"type": "text", "text": text}]}

    return [
        {
            "images": [Image.new("RGB", (28, 28), (40 * place, 10, 10))],
            "messages": [turn("user", r["context"], {"type": "image", "text": None}), turn("assistant", r["answer"])],
        }
        for place, r in enumerate(records[:4])
    ]


def test_images_are_trained_as_in_trl(tmp_path, tokenizer, records):
    tokenizer.chat_template = _TEMPLATES["llava"]
    found = []
    for trainer_class, config in ((CoTSFTTrainer, CoTSFTConfig), (SFTTrainer, SFTConfig)):
        trainer = trainer_class(
            _model("llava", tokenizer),
            config(**tiny_settings(tmp_path)),
            train_dataset=Dataset.from_list(_with_images(records)),
            processing_class=tiny_processor("llava", tokenizer, tokenizer.chat_template),
        )
        trainer.train()
        found.append(logged(trainer))
    assert found[0] == pytest.approx(found[1], abs=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"answer_weight": 2.0}, "without weights"),
        ({"label_smoothing_factor": 0.1}, "without label_smoothing_factor"),
        ({"packing": True}, "without packing"),
        ({"curriculum": "steps"}, "without curriculum"),
        ({"domain_temperature": 2.0}, "without domain_temperature"),
        ({"train_sampling_strategy": "group_by_length"}, "without train_sampling_strategy"),
    ],
)
def test_images_with_what_only_text_has_are_refused(tmp_path, tokenizer, records, options, message):
    with pytest.raises(ValueError, match=message):
        CoTSFTTrainer(
            _model("llava", tokenizer),
            CoTSFTConfig(**tiny_settings(tmp_path, **options)),
            train_dataset=Dataset.from_list(_with_images(records)),
            processing_class=tiny_processor("llava", tokenizer, tokenizer.chat_template),
        )


def test_images_without_a_processor_or_with_a_teacher_are_refused(tmp_path, tokenizer, records):
    images = Dataset.from_list(_with_images(records))
    model, args = _model("llava", tokenizer), CoTSFTConfig(**tiny_settings(tmp_path))
    with pytest.raises(ValueError, match="processing_class is a tokenizer, which cannot read images"):
        CoTSFTTrainer(model, args, train_dataset=images, processing_class=tokenizer)
    with pytest.raises(ValueError, match="without a teacher"):
        DistillKLTrainer(
            model,
            DistillKLConfig(**tiny_settings(tmp_path)),
            train_dataset=images,
            processing_class=tiny_processor("llava", tokenizer, tokenizer.chat_template),
            teacher_model=copy.deepcopy(model),
            teacher_tokenizer=tokenizer,
        )
