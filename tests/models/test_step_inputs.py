"""What StepReasoner is given: labels that end the prompt, TRL's formats, adapters for each row; what it refuses."""

import copy

import pytest
import torch
from tiny import tiny_settings
from transformers import AutoModelForCausalLM
from trl import SFTConfig, SFTTrainer

from hf_reason import CoTSFTConfig, CoTSFTTrainer, DistillKLConfig, DistillKLTrainer

PAIRS = [(f"{number}+4等于几？", f"{number}+4={number + 4}\n所以是{number + 4}。") for number in range(2, 10)]
FORMATS = {
    "text": [{"text": question + answer} for question, answer in PAIRS],
    "prompt-completion": [{"prompt": question, "completion": answer} for question, answer in PAIRS],
    "messages": [
        {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
        for question, answer in PAIRS
    ],
    "messages, prompt apart": [
        {"prompt": [{"role": "user", "content": question}], "completion": [{"role": "assistant", "content": answer}]}
        for question, answer in PAIRS
    ],
}
GENERATE = {"do_sample": False, "max_new_tokens": 16, "min_new_tokens": 16}


@pytest.fixture
def model(step_model):
    return step_model(plan_slots=1, trigger_token_ids=[4])


def _labels(ids, first):
    labels = ids.clone()
    labels[:, :first] = -100
    return labels


# Labels


def test_labels_end_the_prompt_as_generate_does(model, ids):
    """Without a start of thought: logits after the prompt are those of decoding from it."""
    text, first = ids("abcdeab.c=de.f"), 6
    output = model(text, labels=_labels(text, first))
    told = model(text, prompt_length=first).logits
    assert torch.equal(output.logits, told)
    cache = model(text[:, :first], use_cache=True, prompt_length=first)
    assert torch.allclose(cache.logits[:, -1], told[:, first - 1])
    for place in range(first, text.shape[1]):
        step = model(text[:, place : place + 1], past_key_values=cache.past_key_values).logits[:, -1]
        assert torch.allclose(step, told[:, place])
    loss = torch.nn.functional.cross_entropy(told[0, first - 1 : -1], text[0, first:])
    assert output.loss.item() == pytest.approx(loss.item(), abs=1e-6)


@pytest.mark.parametrize("text", ["abc<de.f=gh", "abc<d<.f=gh"])
def test_a_start_of_thought_before_the_labels_begins_the_chain(model, ids, text):
    text = ids(text)
    expected = model(text).logits
    for first in (4, 5, 7):
        assert torch.equal(model(text, labels=_labels(text, first)).logits, expected)
    # labels on all of the text do not tell the prompt from the chain, and neither do those of packed rows
    for first in (0, 1):
        assert torch.equal(model(text, labels=_labels(text, first)).logits, expected)


def test_labels_without_a_thought_on_all_of_the_text(model, ids):
    text = ids("abcde.f=gh")
    output = model(text, labels=text)
    assert torch.equal(output.logits, model(text, prompt_length=0).logits)
    output.loss.backward()
    assert model.model.decoder[0].mlp.up_proj.weight.grad.abs().sum() > 0


def test_each_row_and_each_packed_example_has_its_own_prompt(model, ids):
    rows = [(ids("abc.d=ef"), 3), (ids("ab<.de=f"), 5), (ids("gh.ijk=l"), 6)]
    alone = [model(row, labels=_labels(row, first)).logits for row, first in rows]
    together = torch.cat([row for row, _ in rows])
    labels = torch.cat([_labels(row, first) for row, first in rows])
    for number, logits in enumerate(alone):
        assert torch.allclose(model(together, labels=labels).logits[number], logits[0])
    positions = torch.arange(8).repeat(3)[None]
    packed = model(together.flatten()[None], labels=labels.flatten()[None], position_ids=positions).logits
    assert torch.allclose(packed[0], torch.cat(alone, dim=1)[0])
    padded = torch.nn.functional.pad(together, (3, 0)), torch.nn.functional.pad(labels, (3, 0), value=-100)
    mask = torch.nn.functional.pad(torch.ones_like(together), (3, 0))
    assert torch.allclose(
        model(padded[0], labels=padded[1], attention_mask=mask).logits[:, 3:], torch.cat(alone), atol=1e-10
    )


def test_rows_without_labels_and_steps_given(model, ids):
    text = ids("abcdefgh", "abcdefgh")
    labels = torch.stack([_labels(text[:1], 3)[0], torch.full((8,), -100)])
    assert model(text, labels=labels).loss.isfinite()
    steps = torch.zeros_like(text)
    with pytest.raises(ValueError, match="step_ids are 0 .* wherever there are labels"):
        model(text, labels=labels, step_ids=steps)
    steps[:, 5:] = 1
    assert torch.equal(model(text, labels=labels, step_ids=steps).logits, model(text, step_ids=steps).logits)
    completion = torch.zeros_like(text)
    completion[:, 3:] = 1
    assert torch.equal(model(text, completion_mask=completion).logits, model(text, prompt_length=3).logits)


_RUNS = [
    ("text", SFTTrainer, True),
    ("messages", CoTSFTTrainer, False),
    *(
        pytest.param(form, trainer, lora, marks=pytest.mark.slow)
        for form in FORMATS
        for trainer in (SFTTrainer, CoTSFTTrainer)
        for lora in (False, True)
    ),
]


@pytest.mark.parametrize(("form", "trainer_class", "lora"), _RUNS)
def test_trls_own_formats_are_learned(tmp_path, text_model, tokenizer, form, trainer_class, lora):
    """The loss moves from log V, with a LoRA too, and the gradients are not 0."""
    from datasets import Dataset
    from peft import LoraConfig

    targets = ["q_proj", "v_proj", "up_proj"]
    config = SFTConfig if trainer_class is SFTTrainer else CoTSFTConfig
    trainer = trainer_class(
        model=text_model(),
        args=config(**tiny_settings(tmp_path, max_steps=3, learning_rate=0.03)),
        train_dataset=Dataset.from_list(FORMATS[form]),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=4, target_modules=targets, task_type="CAUSAL_LM") if lora else None,
    )
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    norms = [row["grad_norm"] for row in trainer.state.log_history if "grad_norm" in row]
    assert losses[-1] < losses[0] - 0.05 and min(norms) > 1e-3, (losses, norms)


def test_distillation_reads_the_end_of_the_prompt_too(tmp_path, text_model, tokenizer):
    from datasets import Dataset

    rows = FORMATS["prompt-completion"]
    trainer = DistillKLTrainer(
        model=text_model(),
        args=DistillKLConfig(**tiny_settings(tmp_path, max_steps=2, path_weight=0.0)),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        teacher_model=text_model(seed=1),
        teacher_tokenizer=tokenizer,
    )
    seen = []
    trainer.model.model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["completion_mask"].any()), with_kwargs=True
    )
    trainer.train()
    assert seen and all(seen)


# Adapters


@pytest.mark.parametrize(
    ("use_cache", "slots", "beams"),
    [
        (True, 0, 1),
        (True, 1, 3),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in ((True, 1, 1), (False, 1, 1), (False, 0, 2))),
    ],
)
def test_an_adapter_for_each_row(text_model, records, tokenizer, use_cache, slots, beams):
    """With beams, too: PEFT takes the rows of what it holds for an encoder for unrepeated ones."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    base = text_model(plan_slots=slots).double()
    base.config.boundary_token_ids = list(range(0, base.config.vocab_size, 3))  # rows finish pieces at different times
    model = get_peft_model(base, config)
    model.add_adapter("other", config)
    model.eval()
    prompts = [tokenizer(record["context"] + "<think>\n1", add_special_tokens=False) for record in records[:3]]
    batch = tokenizer.pad(prompts, return_tensors="pt", padding_side="left")
    names = ["default", "other", "__base__"]
    options = {**GENERATE, "use_cache": use_cache, "num_beams": beams}
    together = model.generate(**batch, adapter_names=names, **options)
    for row, name in enumerate(names[:2]):
        model.set_adapter(name)
        alone = model.generate(batch["input_ids"], attention_mask=batch["attention_mask"], **options)
        assert torch.equal(alone[row], together[row]), name
    assert len({tuple(row[-16:].tolist()) for row in together}) == 3


def test_prompt_learning_is_refused_in_pefts_terms(text_model, tokenizer):
    from peft import PrefixTuningConfig, PromptEncoderConfig, PromptTuningConfig, get_peft_model

    ids = torch.tensor([tokenizer("1+2<think>\n3")["input_ids"]])
    for kind in (PromptTuningConfig, PromptEncoderConfig, PrefixTuningConfig):
        model = get_peft_model(text_model(), kind(task_type="CAUSAL_LM", num_virtual_tokens=2))
        for call in (lambda m=model: m(input_ids=ids, labels=ids), lambda m=model: m.generate(input_ids=ids)):
            with pytest.raises(ValueError, match=r"prompt learning \(prompt tuning.*use LoRA"):
                call()


# generate


def test_libraries_see_no_encoder_decoder_model(text_model):
    model = text_model()
    assert model.get_encoder() is model and model.get_decoder() is model.model
    assert model.model.get_encoder() is model.model.get_decoder() is model.model


def test_what_generate_cannot_do_is_said(text_model, tokenizer):
    model, ids = text_model(), torch.tensor([tokenizer("1+2<think>\n3")["input_ids"]])
    with pytest.raises(ValueError, match="generate needs input_ids"):
        model.generate(inputs_embeds=model.get_input_embeddings()(ids), max_new_tokens=2)
    with pytest.raises(ValueError, match="Continuous batching .*padded on the left"):
        model.generate_batch([ids[0].tolist()], max_new_tokens=2)


def test_from_config_and_logits_to_keep(text_model, tokenizer):
    model, ids = text_model(), torch.tensor([tokenizer("1+2<think>\n3")["input_ids"]])
    fresh = AutoModelForCausalLM.from_config(copy.deepcopy(model.config))
    assert type(fresh) is type(model) and fresh(ids).logits.shape == model(ids).logits.shape
    whole = model(ids).logits
    assert torch.allclose(model(ids, logits_to_keep=2).logits, whole[:, -2:], atol=1e-5)
    assert torch.allclose(model(ids, logits_to_keep=torch.tensor([4])).logits, whole[:, 4:5], atol=1e-5)


def test_generation_in_bfloat16_after_saving(tmp_path, text_model, tokenizer):
    ids = torch.tensor([tokenizer("1+2<think>\n3=")["input_ids"]])
    model = text_model().to(torch.bfloat16)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype="auto")
    assert loaded.dtype == torch.bfloat16
    assert torch.equal(loaded.generate(ids, **GENERATE), model.generate(ids, **GENERATE))
