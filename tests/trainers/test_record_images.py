"""Records with images: tokens and steps around them, the loss by a plain formula, what is saved, what is refused."""

import copy

import pytest
import torch
from datasets import Dataset, Image, List
from pictures import png, tiny_processor, tiny_vision_model, with_marks
from tiny import logged, tiny_qwen2, tiny_settings
from transformers import AutoModelForImageTextToText

from hf_reason.data.record import record_features
from hf_reason.evaluation import evaluate_model
from hf_reason.generation import generate_cot
from hf_reason.generation.batching import generate_ids
from hf_reason.generation.settings import generation_config
from hf_reason.text import build_prompt, encode, encode_prompt
from hf_reason.text.collator import CoTCollator, ImageCollator
from hf_reason.text.multimodal import ImageInputs
from hf_reason.trainers import CoTSFTConfig, CoTSFTTrainer, DistillKLConfig, DistillKLTrainer

KINDS = ["qwen2_vl", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("llava", "qwen2_5_vl", "idefics3"))]


@pytest.fixture
def tokenizer(tokenizer):
    return with_marks(tokenizer)


@pytest.fixture
def pictured(records):
    """Records with one image, none, and two of which each has its place."""
    rows = [dict(record) for record in records[:6]]
    for number, row in enumerate(rows):
        row["images"] = [{"bytes": png(number, (56 + 28 * (number % 2), 56)), "path": None}]
        row["captions"] = []
    rows[2]["images"] = []
    rows[4]["context"] = f"比较<image>和<image>:{rows[4]['context']}"
    rows[4]["images"] = [{"bytes": png(7), "path": None}, {"bytes": png(8, (84, 84)), "path": None}]
    return rows


def data(rows):
    return Dataset.from_list(rows, features=record_features(images=True))


def trainer_of(tmp_path, kind, tokenizer, rows, trainer=CoTSFTTrainer, config=CoTSFTConfig, extra=None, **settings):
    return trainer(
        tiny_vision_model(kind, tokenizer),
        config(**tiny_settings(tmp_path, **settings)),
        train_dataset=data(rows) if isinstance(rows, list) else rows,
        eval_dataset=data(rows) if isinstance(rows, list) else None,
        processing_class=tiny_processor(kind, tokenizer),
        **(extra or {}),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_takes_tokens_of_the_prompt_alone(tokenizer, pictured, kind):
    processor = tiny_processor(kind, tokenizer)
    mark = tokenizer.convert_tokens_to_ids(processor.image_token)
    for row in pictured:
        found = encode(row, processor)
        sizes = [image.size for image in ([] if not row["images"] else map(_opened, row["images"]))]
        tokens = {"llava": lambda *_: 4, "idefics3": lambda *_: 5}  # four tiles and the whole
        wanted = sum(tokens.get(kind, lambda width, height: width // 28 * (height // 28))(*size) for size in sizes)
        places = [place for place, token in enumerate(found["input_ids"]) if token == mark]
        assert len(places) == wanted
        for name, outside in (("labels", -100), ("segment_ids", 0), ("step_ids", 0)):
            assert {found[name][place] for place in places} <= {outside}
        text = encode({**row, "images": [], "context": row["context"].replace("<image>", "")}, processor)
        prompt = found["segment_ids"].count(0)
        before = text["segment_ids"].count(0)
        for name in ("input_ids", "labels", "segment_ids", "step_ids"):
            assert found[name][prompt:] == text[name][before:]


def _opened(image):
    from hf_reason.data.images import open_image

    return open_image(image)


@pytest.mark.parametrize("kind", KINDS)
def test_images_stand_where_the_text_says(tokenizer, pictured, kind):
    processor = tiny_processor(kind, tokenizer)
    text = tokenizer.decode(encode(pictured[4], processor)["input_ids"])
    parts = text.split("比较")[1].split("和", 1)
    assert processor.image_token in parts[0] and processor.image_token in parts[1]
    before = tokenizer.decode(encode(pictured[0], processor)["input_ids"]).split(pictured[0]["context"])[0]
    assert processor.image_token in before


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weights", [{}, {"answer_weight": 3.0, "thought_weight": 0.5}])
def test_the_loss_is_the_weighted_mean_with_the_pixels_read(tmp_path, tokenizer, pictured, kind, weights):
    """Against a formula on the model's own logits, each record alone, with what the processor itself makes of it."""
    trainer = trainer_of(tmp_path, kind, tokenizer, pictured, **weights)
    loss = trainer.evaluate()["eval_loss"]
    model, processor = trainer.model.eval(), trainer.processing_class
    total = weight_sum = 0.0
    blind = []
    for row in pictured:
        found = encode(row, processor)
        ids = torch.tensor([found["input_ids"]])
        inputs = {}
        if row["images"]:
            pictures, prompt = [_opened(image) for image in row["images"]], build_prompt(row, processor)
            inputs = dict(processor(images=[pictures], text=[prompt], return_tensors="pt"))
            inputs.pop("input_ids"), inputs.pop("attention_mask")
            for name in set(inputs) & {"token_type_ids", "mm_token_type_ids"}:
                own = torch.zeros_like(ids)
                own[:, : inputs[name].shape[1]] = inputs[name]
                inputs[name] = own
        with torch.no_grad():
            logits = model(input_ids=ids, **inputs).logits[0, :-1].float()
        if inputs:
            inputs["pixel_values"] = -inputs["pixel_values"]
            with torch.no_grad():
                blind.append((model(input_ids=ids, **inputs).logits[0, :-1].float() - logits).abs().max().item())
        labels, segments = torch.tensor(found["labels"][1:]), torch.tensor(found["segment_ids"][1:])
        scale = torch.tensor([0.0, weights.get("thought_weight", 1.0), weights.get("answer_weight", 1.0)])[segments]
        losses = torch.nn.functional.cross_entropy(logits, labels.clamp(min=0), reduction="none")
        # the trainer's mean is over each batch
        total, weight_sum = total + (losses * scale).sum().item(), weight_sum + scale.sum().item()
    assert trainer.args.per_device_eval_batch_size >= len(pictured)
    assert loss == pytest.approx(total / weight_sum, rel=1e-5)
    assert min(blind) > 1e-5  # the pixels are read


@pytest.mark.parametrize("kind", KINDS)
def test_training_moves_the_vision_part_and_is_saved_with_its_processor(tmp_path, tokenizer, pictured, kind):
    trainer = trainer_of(tmp_path, kind, tokenizer, pictured, max_steps=2, step_weighting="step")
    before = copy.deepcopy(trainer.model.state_dict())
    trainer.train()
    moved = [name for name, value in trainer.model.state_dict().items() if not torch.equal(value, before[name])]
    assert any("vis" in name for name in moved) and any("layers" in name for name in moved)
    assert all(5 < loss < 8 for loss in logged(trainer))
    trainer.save_model()
    assert (tmp_path / "processor_config.json").is_file() and (tmp_path / "tokenizer.json").is_file()
    model = AutoModelForImageTextToText.from_pretrained(tmp_path).eval()
    processor = type(trainer.processing_class).from_pretrained(tmp_path)
    rows = [row for row in pictured if row["images"]]
    outputs = [
        [o.thought for o in generate_cot(m, p, rows, max_thought_tokens=6, max_answer_tokens=3)]
        for m, p in ((trainer.model, trainer.processing_class), (model, processor))
    ]
    assert outputs[0] == outputs[1]


@pytest.mark.parametrize("kind", ["qwen2_vl", pytest.param("llava", marks=pytest.mark.slow)])
def test_a_run_that_was_stopped_continues_with_its_weights(tmp_path, tokenizer, pictured, kind):
    """transformers saves these under older names, and its own resume goes on with the weights of the beginning."""
    settings = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    whole = trainer_of(tmp_path, kind, tokenizer, pictured, **settings)
    whole.train()
    resumed = trainer_of(tmp_path, kind, tokenizer, pictured, **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert logged(resumed) == pytest.approx(logged(whole), abs=1e-6)
    for name, value in whole.model.state_dict().items():
        assert torch.allclose(value, resumed.model.state_dict()[name], atol=1e-6), name
    resumed.state.best_model_checkpoint = str(tmp_path / "checkpoint-2")
    resumed._load_best_model()
    saved = AutoModelForImageTextToText.from_pretrained(tmp_path / "checkpoint-2").state_dict()
    assert all(torch.equal(value, saved[name]) for name, value in resumed.model.state_dict().items())


@pytest.mark.parametrize("kind", KINDS)
def test_generation_in_batches_is_that_of_each_prompt(tokenizer, pictured, kind):
    """Padded in front, mixed with text: the same as alone, and as transformers' own for one record."""
    model, processor = tiny_vision_model(kind, tokenizer).eval(), tiny_processor(kind, tokenizer)
    options = {"max_thought_tokens": 8, "max_answer_tokens": 4}
    together = generate_cot(model, processor, pictured, **options)
    alone = [generate_cot(model, processor, row, **options)[0] for row in pictured]
    assert [o.thought for o in together] == [o.thought for o in alone]
    row = pictured[1]
    inputs = processor(images=[_opened(row["images"][0])], text=[alone[1].prompt], return_tensors="pt")
    wanted = model.generate(**inputs, max_new_tokens=6, do_sample=False)[0, inputs["input_ids"].shape[1] :].tolist()
    prompts, ids = [o.prompt for o in alone], [encode_prompt(row, processor) for row in pictured]
    config = generation_config(model, tokenizer, max_new_tokens=6)
    more = ImageInputs.of(processor, prompts, pictured, ids)
    written = generate_ids(model, ids, config, batch_size=4, more_inputs=more)[1][0]
    assert written == wanted[: len(written)] and written
    changed = [{**row, "images": [{"bytes": png(99, (140, 140)), "path": None}] * len(row["images"])}]
    result = evaluate_model(model, processor, pictured, max_completion_length=8, return_predictions=True)
    assert len(result.predictions) == len(pictured)
    assert generate_cot(model, processor, changed, **options)[0].prompt == alone[1].prompt


def test_split_pieces_have_their_images(tmp_path, tokenizer, pictured):
    longest = max(len(encode(row, tiny_processor("qwen2_vl", tokenizer))["input_ids"]) for row in pictured)
    trainer = trainer_of(
        tmp_path, "qwen2_vl", tokenizer, pictured[:2], max_length=longest - 10, overlong="split", max_steps=1
    )
    whole = trainer_of(tmp_path, "qwen2_vl", tokenizer, pictured[:2])
    rows = trainer.train_dataset
    assert len(rows) >= len(whole.train_dataset)
    assert all(len(row["image_files"]) == 1 and row["image_prompt"] for row in rows)
    trainer.train()


def test_a_file_that_has_changed_since_is_an_error(tokenizer, pictured):
    processor = tiny_processor("qwen2_vl", tokenizer)
    found = encode(pictured[0], processor)
    collate = ImageCollator(pad_token_id=tokenizer.pad_token_id, processor=processor)
    other = [{"bytes": png(0, (112, 112)), "path": None}]
    with pytest.raises(ValueError, match="a file has changed"):
        collate([{**found, "image_files": other, "image_prompt": build_prompt(pictured[0], processor)}])


@pytest.mark.parametrize("form", ["decoded", "pil", "path", "single", "streamed", "workers"])
def test_images_in_any_form(tmp_path, tokenizer, pictured, form):
    """`datasets.Image` decoded or not, pictures, paths, and TRL's single `image`: the same rows."""
    rows = [pictured[0], pictured[1]]
    wanted = trainer_of(tmp_path, "llava", tokenizer, rows).train_dataset["input_ids"]
    options = {"dataloader_num_workers": 2} if form == "workers" else {}
    if form in ("decoded", "streamed"):
        given = data(rows).cast_column("images", List(Image()))
        given = given.to_iterable_dataset() if form == "streamed" else given
    elif form == "workers":
        given = data(rows)
    elif form == "pil":
        given = Dataset.from_list([{**row, "images": [_opened(row["images"][0])]} for row in rows])
    else:
        for number, row in enumerate(rows):
            (tmp_path / f"{number}.png").write_bytes(row["images"][0]["bytes"])
        paths = [str(tmp_path / f"{number}.png") for number in range(2)]
        shown = [{**row, "images": [path]} for row, path in zip(rows, paths, strict=True)]
        if form == "single":
            shown = [{**{k: v for k, v in row.items() if k != "images"}, "image": row["images"][0]} for row in shown]
        given = Dataset.from_list(shown)
    trainer = trainer_of(tmp_path, "llava", tokenizer, given, max_steps=1, **options)
    assert [row["input_ids"] for row in trainer.train_dataset] == list(wanted)
    trainer.train()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"packing": True}, "trained without packing"), ({"mixup_alpha": 0.2}, "trained without mixup_alpha")],
)
def test_what_images_cannot_be_trained_with_is_refused(tmp_path, tokenizer, pictured, options, message):
    with pytest.raises(ValueError, match=message):
        trainer_of(tmp_path, "llava", tokenizer, pictured, **options)


def test_what_would_not_read_the_images_is_refused(tmp_path, tokenizer, pictured):
    collator = CoTCollator(pad_token_id=tokenizer.pad_token_id)
    for extra in ({"data_collator": collator}, {"formatting_func": lambda record: record["context"]}):
        with pytest.raises(ValueError, match=f"trained without .*{next(iter(extra))}"):
            trainer_of(tmp_path, "llava", tokenizer, pictured, extra=extra)


def test_a_model_of_text_names_captions(tmp_path, tokenizer, pictured):
    model, args = tiny_qwen2(tokenizer), CoTSFTConfig(**tiny_settings(tmp_path))
    with pytest.raises(ValueError, match=r"\(qwen2\) reads text alone.*augment --captions 1 --replace"):
        CoTSFTTrainer(model, args, train_dataset=data(pictured), processing_class=tokenizer)
    with pytest.raises(ValueError, match=r"reads text alone.*augment --captions 1 --replace"):
        generate_cot(model, tokenizer, pictured[:1])
    with pytest.raises(ValueError, match=r"reads text alone.*augment --captions 1 --replace"):
        evaluate_model(model, tokenizer, pictured[:1])
    text = [row for row in pictured if not row["images"]]
    CoTSFTTrainer(model, args, train_dataset=data(text), processing_class=tokenizer)  # an empty column is no image


def test_a_tokenizer_or_a_teacher_is_refused(tmp_path, tokenizer, pictured):
    model, args = tiny_vision_model("llava", tokenizer), CoTSFTConfig(**tiny_settings(tmp_path))
    with pytest.raises(
        ValueError, match="processing_class is a .*, which reads text alone. Pass the model's processor"
    ):
        CoTSFTTrainer(model, args, train_dataset=data(pictured), processing_class=tokenizer)
    with pytest.raises(ValueError, match="trained without a teacher"):
        trainer_of(
            tmp_path,
            "llava",
            tokenizer,
            pictured,
            DistillKLTrainer,
            DistillKLConfig,
            {"teacher_model": copy.deepcopy(model), "teacher_tokenizer": tokenizer},
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": [{"bytes": None, "path": "gone.png"}]}, r"Record .*: gone.png: there is no such file"),
        ({"context": "<image>和<image>"}, "1 images, and 2 times <image>"),
        ({"steps": ["<|image_pad|>"]}, "the model's own mark of an image"),
        ({"images": [], "context": "<|image_pad|>?"}, "the model's own mark of an image"),
    ],
)
def test_records_that_cannot_be_read(tmp_path, tokenizer, pictured, change, message):
    with pytest.raises(ValueError, match=message):
        trainer_of(tmp_path, "qwen2_vl", tokenizer, [{**pictured[0], **change}, pictured[1]])


def test_a_template_that_reads_no_images_is_refused(tokenizer, pictured):
    with pytest.raises(ValueError, match="Use the template that belongs to the processor"):
        encode(pictured[0], tiny_processor("qwen2_vl", tokenizer, template=tokenizer.chat_template))
