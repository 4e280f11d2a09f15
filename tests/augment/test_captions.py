"""Images in words: what changes and what does not, the cache, broken images, and captioners of each kind."""

import base64
import io
import json

import pytest
from datasets import Dataset, load_from_disk
from hypothesis import given
from hypothesis import strategies as st
from loopback_server import LoopbackServer
from pictures import png, tiny_processor, tiny_vision_model, with_marks
from PIL import Image

from hf_reason.augment import Captions, CaptionWriter, LocalCaptioner, ServedCaptioner, augment
from hf_reason.augment.captioners import PROMPTS, data_url
from hf_reason.augment.captions import with_captions
from hf_reason.augment.operation import seed_of
from hf_reason.data.images import open_image
from hf_reason.data.record import make_record, record_features
from hf_reason.traces.settings import TraceSettings


class Sees:
    """A stand-in that says how large a picture is, and counts."""

    is_asked = True

    def __init__(self, stop_after=None):
        self.identity, self.failures = {"model": "sees"}, {}
        self.seen, self.stop_after = [], stop_after

    def describe(self, images, languages):
        for index, (image, language) in enumerate(zip(images, languages, strict=True)):
            if self.stop_after is not None and len(self.seen) >= self.stop_after:
                raise KeyboardInterrupt
            width, height = open_image(image).size
            self.seen.append(language)
            yield [(index, f"宽{width},高{height}" if language == "zh" else f"{width} wide, {height} high")]


def record(number, context="图中柱子多高?", answer="7", images=None, **more):
    images = [{"bytes": png(number, (30 + number, 40)), "path": None}] if images is None else images
    return make_record(context, ["左边3,右边4。", "3+4=7"], answer, images=images, **more)


def data(rows):
    return Dataset.from_list([{"images": [], "captions": [], **row} for row in rows], features=record_features(True))


def made_by(operation, rows, tmp_path, **options):
    splits = rows if isinstance(rows, dict) else {"train": data(rows)}
    report = augment(splits, [operation], tmp_path / "out", **options)
    return report, {name: part.to_list() for name, part in load_from_disk(tmp_path / "out").items()}


def test_a_copy_has_the_description_and_everything_else_as_it_was(tmp_path):
    rows = [record(1), record(2, "How high?", language="en"), make_record("3+4=?", ["3+4=7"], "7")]
    report, found = made_by(Captions(Sees(), tmp_path / "cache"), rows, tmp_path, seed=3)
    first, copy, second, other, text = found["train"]
    assert [first["id"], second["id"], text["id"]] == [row["id"] for row in rows]
    assert copy["context"] == "图片:宽31,高40\n图中柱子多高?"
    assert other["context"] == "Image: 32 wide, 40 high\nHow high?"
    for new, old in ((copy, rows[0]), (other, rows[1])):
        assert new["images"] == [] and new["id"] != old["id"]
        assert all(new[name] == old[name] for name in ("task", "steps", "answer", "domain", "language", "source"))
    (entry,) = copy["provenance"]
    assert entry == {
        "operation": "captions",
        "of": rows[0]["id"],
        "seed": seed_of(3, "captions", rows[0]["id"]),
        "detail": "context extended: 1 image described by sees",
    }
    assert report["counts"]["operations"]["captions"] == {
        "chosen": 2,
        "made": 2,
        "refused": {},
        "parts": {"images described": 2},
    }


@given(st.lists(st.text("图12 3柱,.", min_size=1, max_size=12), min_size=1, max_size=4), st.booleans(), st.data())
def test_the_text_of_the_problem_stays_whatever_is_said(captions, places, draw):
    pieces = [draw.draw(st.text("问题ab 4?", max_size=8)) for _ in range(len(captions) + 1)]
    context = "<image>".join(pieces) if places else "".join(pieces)
    for language in ("zh", "en"):
        found = with_captions(context, captions, language)
        rest = found
        for piece in pieces if places else ["".join(pieces)]:
            assert piece in rest
            rest = rest[rest.index(piece) + len(piece) :] if places else rest
        assert all(caption in found for caption in captions) and "<image>" not in found


def test_each_image_is_described_in_its_place(tmp_path):
    images = [{"bytes": png(n, (20 + n, 40)), "path": None} for n in range(2)]
    row = record(1, "比较<image>和<image>,哪个大?", images=images)
    _, found = made_by(Captions(Sees(), tmp_path / "cache"), [row], tmp_path, replace=True)
    assert [r["context"] for r in found["train"]] == ["比较【图片1:宽20,高40】和【图片2:宽21,高40】,哪个大?"]


def test_the_fraction_is_of_the_records_with_images(tmp_path):
    rows = [record(number, f"第{number}张?") for number in range(10)]
    text = [make_record(f"{number}+1=?", ["加"], "1") for number in range(30)]
    _, found = made_by(Captions(Sees(), tmp_path / "cache", 0.3), [*text, *rows], tmp_path)
    assert sum(bool(row["provenance"]) for row in found["train"]) == 3
    assert len(found["train"]) == 43


def test_an_image_is_described_once_and_a_kill_loses_none(tmp_path):
    rows = [record(number % 4, f"第{number}个问题?") for number in range(12)]
    killed = Sees(stop_after=2)
    with pytest.raises(KeyboardInterrupt):
        made_by(Captions(killed, tmp_path / "cache"), rows, tmp_path)
    assert not (tmp_path / "out/dataset_dict.json").exists()
    after = Sees()
    _, found = made_by(Captions(after, tmp_path / "cache"), rows, tmp_path)
    assert len(killed.seen) == 2 and len(after.seen) == 2 and len(found["train"]) == 24
    _, straight = made_by(Captions(Sees(), tmp_path / "other"), rows, tmp_path / "again")
    assert straight == found
    lines = next((tmp_path / "cache").glob("captions-*.jsonl")).read_text(encoding="utf-8").splitlines()
    assert len(lines) == 5 and json.loads(lines[0])["settings"] == {"model": "sees"}


def test_replacing_all_leaves_no_image_in_any_split(tmp_path):
    """So that a model of text can be trained, validated and tested on it."""
    splits = {name: data([record(n, f"{name}{n}?") for n in range(3)]) for name in ("train", "validation", "test")}
    _, found = made_by(Captions(Sees(), tmp_path / "cache", everywhere=True), splits, tmp_path, replace=True)
    for rows in found.values():
        assert len(rows) == 3 and not any(row["images"] for row in rows)
        assert all(row["context"].startswith("图片:") and row["provenance"] for row in rows)
    from hf_reason.data import load_cot_sft_dataset

    assert "images" not in load_cot_sft_dataset(data_dir=tmp_path / "out").column_names


def test_without_replace_the_other_splits_stay(tmp_path):
    splits = {"train": data([record(1)]), "test": data([record(2)])}
    _, found = made_by(Captions(Sees(), tmp_path / "cache"), splits, tmp_path)
    assert len(found["train"]) == 2 and found["test"][0]["images"] and not found["test"][0]["provenance"]


@pytest.mark.parametrize("broken", ["drop", "keep"])
def test_broken_images_are_counted(tmp_path, broken):
    rows = [record(number, f"{number}?") for number in range(4)]
    rows[1] = {**rows[1], "images": [{"bytes": b"no image", "path": None}]}
    rows[2] = {**rows[2], "images": [{"bytes": None, "path": str(tmp_path / "gone.png")}]}
    report, found = made_by(Captions(Sees(), tmp_path / "cache", broken=broken), rows, tmp_path)
    counts = report["counts"]["operations"]["captions"]
    assert counts["refused"] == {"an image that cannot be read": 2}
    assert counts.get("left_out", 0) == (2 if broken == "drop" else 0)
    assert len(found["train"]) == 4 + (2 if broken == "keep" else 0)


def test_captions_of_the_data(tmp_path):
    rows = [{**record(1), "captions": ["三根柱子"]}, record(2, "多高?")]
    report, found = made_by(Captions(None, tmp_path / "cache"), rows, tmp_path)
    assert [row["context"] for row in found["train"] if row["provenance"]] == ["图片:三根柱子\n图中柱子多高?"]
    assert report["counts"]["operations"]["captions"]["refused"] == {"no caption in the data": 1}
    assert found["train"][1]["provenance"][0]["detail"] == "context extended: 1 image described by the data"


@pytest.mark.parametrize(
    ("text", "fault"),
    [("", "empty or was cut"), ("答案</think>7", "markup"), ("<image>", "markup"), ("<|im_end|>", "markup")],
)
def test_descriptions_that_are_not_used(tmp_path, text, fault):
    class Says(Sees):
        def describe(self, images, languages):
            yield [(0, text)]

    report, found = made_by(Captions(Says(), tmp_path / "cache"), [record(1)], tmp_path)
    (why,) = report["counts"]["operations"]["captions"]["refused"]
    assert fault in why and len(found["train"]) == 1


class SeeingServer(LoopbackServer):
    """Says the size of the picture that a request holds."""

    def answer(self, request):
        image, text = request["messages"][-1]["content"]
        assert image["type"] == "image_url" and text["text"] in PROMPTS.values()
        kind, _, content = image["image_url"]["url"].partition(";base64,")
        picture = Image.open(io.BytesIO(base64.b64decode(content)))
        assert kind == f"data:image/{picture.format.lower()}"
        message = {"role": "assistant", "content": f"<think>嗯</think>“宽{picture.width}”"}
        return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": {}}


def test_a_server_gets_data_urls(tmp_path):
    server = SeeingServer("/models/seer")
    try:
        server.failures = [(500, {}), (429, {}, {"Retry-After": "0"})]
        writer = CaptionWriter(server.url, TraceSettings(num_samples=1), retries=3)
        tiff = io.BytesIO()
        Image.new("RGB", (77, 8)).save(tiff, "TIFF")
        rows = [record(number, f"{number}?") for number in range(3)]
        rows.append(record(9, images=[{"bytes": tiff.getvalue(), "path": None}]))  # which no server reads
        captioner = ServedCaptioner(writer, {"model": "seer"})
        _, found = made_by(Captions(captioner, tmp_path / "cache"), rows, tmp_path, replace=True)
    finally:
        server.close()
    assert sorted(row["context"][:6] for row in found["train"]) == ["图片:宽30", "图片:宽31", "图片:宽32", "图片:宽77"]
    seeds = [request["seed"] for request in server.requests]
    assert len(set(seeds)) == 4 and len(seeds) == 6


def test_what_a_server_gives_up_is_asked_again(tmp_path):
    server = SeeingServer("seer")
    try:
        server.failures = [(400, {"error": "no"})]
        rows = [record(number, f"{number}?") for number in range(3)]
        for made in (2, 3):
            writer = CaptionWriter(server.url, TraceSettings(num_samples=1), retries=0, parallel=1)
            captions = Captions(ServedCaptioner(writer, {"model": "seer"}), tmp_path / "cache")
            report, _ = made_by(captions, rows, tmp_path)
            assert report["counts"]["operations"]["captions"]["made"] == made
            assert bool(report["failures"]) == (made == 2)
    finally:
        server.close()
    assert len(server.requests) == 4


def test_data_urls_hold_the_file_as_it_is():
    image = {"bytes": png(3), "path": None}
    assert data_url(image) == "data:image/png;base64," + base64.b64encode(png(3)).decode()


@pytest.mark.parametrize("kind", ["qwen2_vl", "llava"])
def test_models_that_are_asked(tokenizer, kind):
    """Batched, padded in front: what the model writes for each picture alone; cut descriptions are empty."""
    tokenizer = with_marks(tokenizer)
    model, processor = tiny_vision_model(kind, tokenizer).eval(), tiny_processor(kind, tokenizer)
    images = [{"bytes": png(n, (56 + 28 * n, 56)), "path": None} for n in range(3)]
    captioner = LocalCaptioner(model, processor, {"model": "tiny"}, batch_size=2, max_length=5)
    assert captioner.is_asked
    assert [text for rows in captioner.describe(images, ["zh", "en", "zh"]) for _, text in rows] == ["", "", ""]
    model.generation_config.eos_token_id = list(range(len(tokenizer)))  # every token ends it
    captioner.options["max_new_tokens"] = 2
    said = [text for rows in captioner.describe(images, ["zh", "en", "zh"]) for _, text in rows]
    assert len(said) == 3


def test_models_of_captions_alone(tokenizer):
    """BLIP and GIT have no chat template: they describe what they see, and the prompt is not theirs."""
    from transformers import BlipConfig, BlipForConditionalGeneration, BlipImageProcessor, BlipProcessor

    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    ends = {"bos_token_id": 0, "eos_token_id": 1, "sep_token_id": 1, "pad_token_id": 2}
    text = {**sizes, **ends, "vocab_size": len(tokenizer), "encoder_hidden_size": 16, "projection_dim": 16}
    config = BlipConfig(
        vision_config={**sizes, "image_size": 32, "patch_size": 16, "projection_dim": 16},
        text_config=text,
        projection_dim=16,
        image_text_hidden_size=16,
    )
    tokenizer.chat_template = None
    processor = BlipProcessor(BlipImageProcessor(size={"height": 32, "width": 32}), tokenizer)
    captioner = LocalCaptioner(BlipForConditionalGeneration(config).eval(), processor, {"model": "blip"}, max_length=4)
    assert not captioner.is_asked
    images = [{"bytes": png(n), "path": None} for n in range(3)]
    assert len([text for rows in captioner.describe(images, ["zh"] * 3) for _, text in rows]) == 3
