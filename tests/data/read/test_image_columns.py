"""Images of raw rows: in columns and in messages, by path, bytes, base64 and data URL; what may not be read."""

import base64
import io
import json

import pytest
from datasets import Dataset, Image
from PIL import Image as Pillow

from hf_reason.data import read_traces
from hf_reason.data.images import ImageError, open_image, problem_key, reference_to
from hf_reason.data.read.image_checks import check_images
from hf_reason.data.read.image_columns import ImageSettings
from hf_reason.data.record import RawTrace, make_record, record_id

CHAIN = {
    "question": "图中有几个苹果?",
    "reasoning": "先数左边3个。\n\n再数右边4个。\n\n一共3+4=7个。",
    "answer": "7个",
}


def picture(color=(200, 10, 10), size=(8, 6), form="PNG"):
    buffer = io.BytesIO()
    Pillow.new("RGB", size, color).save(buffer, form)
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path):
    """data/train.jsonl, data/images/a.png and b.png, and a picture beside the folder."""
    (tmp_path / "data/images").mkdir(parents=True)
    (tmp_path / "data/images/a.png").write_bytes(picture())
    (tmp_path / "data/images/b.png").write_bytes(picture((1, 200, 1)))
    (tmp_path / "secret.png").write_bytes(picture((1, 1, 1)))
    return tmp_path / "data"


def traces(folder, *rows, settings=None, name="train.jsonl"):
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return list(read_traces(folder / name, images=settings))


def message(role, *parts):
    return {"role": role, "content": list(parts) if len(parts) > 1 else parts[0]}


TEXT = {"type": "text", "text": "有几个?"}
ENCODED = base64.b64encode(picture(size=(40, 40))).decode()


@pytest.mark.parametrize(
    "columns",
    [
        {"image": "images/a.png"},
        {"images": ["images/a.png"]},
        {"Image Path": "images/a.png"},
        {"图片": "images/a.png"},
        {"images": '["images/a.png"]'},
        {"image": ENCODED},
        {"image": f"data:image/png;base64,{ENCODED}"},
        {"images": [{"path": "images/a.png"}]},
    ],
)
def test_columns_of_images(folder, columns):
    (trace,) = traces(folder, {**CHAIN, **columns})
    assert len(trace.images) == 1 and not trace.image_faults
    assert open_image(trace.images[0]).getpixel((0, 0)) == (200, 10, 10)
    assert trace.context == CHAIN["question"]


def test_layouts_of_published_data(folder):
    """LLaVA's and ShareGPT's conversations, TRL's prompt and completion: each with its image in its place."""
    think = f"<think>{CHAIN['reasoning']}</think>{CHAIN['answer']}"
    llava = [{"from": "human", "value": "<image>\n有几个?"}, {"from": "gpt", "value": think}]
    asked = [message("user", {"type": "image"}, TEXT)]
    rows = [
        {"id": "1", "image": "images/a.png", "conversations": llava},
        {"images": ["images/a.png"], "conversations": llava},
        {"images": ["images/a.png"], "prompt": asked, "completion": [message("assistant", think)]},
    ]
    for number, row in enumerate(rows):
        (trace,) = traces(folder, row, name=f"{number}.jsonl")
        assert trace.context == "<image>\n有几个?" and check_images(trace)[1] == "" and len(trace.images) == 1
        assert "3+4=7" in trace.thought and trace.answer == "7个"


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image"},
        {"type": "image", "image": "images/a.png"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{ENCODED}"}},
        {"type": "input_image", "image_url": f"data:image/png;base64,{ENCODED}"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": ENCODED}},
    ],
)
def test_images_in_messages_keep_their_place(folder, part):
    answer = message("assistant", f"<think>{CHAIN['reasoning']}</think>{CHAIN['answer']}")
    row = {"messages": [message("user", {"type": "text", "text": "看图"}, part, TEXT), answer]}
    if part == {"type": "image"}:
        row["images"] = ["images/a.png"]
    (trace,) = traces(folder, row)
    assert trace.context == "看图\n<image>\n有几个?" and len(trace.images) == 1
    assert check_images(trace)[1] == ""


def test_numbered_columns_are_in_their_order(folder):
    row = {**CHAIN, "image_10": "images/a.png", "image_2": "images/b.png", "image_3": None}
    (trace,) = traces(folder, row)
    assert [image["path"][-5:] for image in trace.images] == ["b.png", "a.png"]


def test_what_is_no_image_stays_what_it_was(folder):
    found = traces(folder, {**CHAIN, "image": "alpine"}, {**CHAIN, "images": 3}, {**CHAIN, "image": None})
    assert not any(trace.images or trace.image_faults for trace in found)


def test_parquet_of_datasets_is_read_as_it_is(folder):
    encoded = picture(form="JPEG")
    data = Dataset.from_list([{**CHAIN, "image": {"bytes": encoded, "path": None}}]).cast_column("image", Image())
    data.to_parquet(folder / "train.parquet")
    data.save_to_disk(folder / "saved")
    for name in ("train.parquet", "saved"):
        (trace,) = read_traces(folder / name)
        assert trace.images[0]["bytes"] == encoded  # decoded and encoded again, a JPEG would be another one


@pytest.mark.parametrize("path", ["../secret.png", "/{}/secret.png", "images/../../secret.png", "link.png"])
def test_no_image_outside_of_the_folder(folder, path):
    (folder / "link.png").symlink_to(folder.parent / "secret.png")
    path = path.format(str(folder.parent).strip("/"))
    (trace,) = traces(folder, {**CHAIN, "image": path})
    assert "lies outside of data" in trace.image_faults[0] and "absolute_image_paths" in trace.image_faults[0]
    (trace,) = traces(folder, {**CHAIN, "image": path}, settings=ImageSettings(absolute=True))
    assert open_image(trace.images[0]).getpixel((0, 0)) == (1, 1, 1)


def test_a_folder_of_images(folder):
    settings = ImageSettings(folder=str(folder / "images"))
    first, second = traces(folder, {**CHAIN, "image": "a.png"}, {**CHAIN, "image": "../train.png"}, settings=settings)
    assert not first.image_faults and "lies outside of images" in second.image_faults[0]


def test_a_folder_of_files_has_paths_from_each_file_or_from_itself(folder):
    (folder / "parts").mkdir()
    for place, path in enumerate(("../images/a.png", "images/b.png")):
        row = {**CHAIN, "image": path}
        (folder / f"parts/{place}.jsonl").write_text(json.dumps(row), encoding="utf-8")
    assert [trace.image_faults for trace in read_traces(folder)] == [{}, {}]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("images/c.png", "there is no such file"),
        ("https://example.org/a.png", "images are not downloaded"),
        ("images/broken.jpg", "cannot be read as an image"),
        ("images/cut.jpg", "cannot be read as an image"),
        ("images/text.png", "cannot be read as an image"),
    ],
)
def test_broken_images(folder, value, message):
    (folder / "images/broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 nothing")
    whole = io.BytesIO()
    Pillow.effect_noise((200, 200), 90).save(whole, "JPEG")
    (folder / "images/cut.jpg").write_bytes(whole.getvalue()[:4000])
    (folder / "images/text.png").write_text("root:x:0:0")
    (trace,) = traces(folder, {**CHAIN, "images": ["images/a.png", value], "captions": ["甲", "乙"]})
    assert message in check_images(trace)[1]
    kept, fault = check_images(trace, keep=True)
    assert message in fault and [image["path"][-5:] for image in kept.images] == ["a.png"]
    assert kept.captions == ["甲"] and check_images(kept)[1] == ""


def test_places_that_do_not_fit_the_images(folder):
    (trace,) = traces(folder, {**CHAIN, "question": "<image>和<image>", "image": "images/a.png"})
    assert check_images(trace)[1] == "1 image, and 2 times <image> in the text."
    assert check_images(trace, keep=True)[0].context == "和"
    context = "<image>甲<image>乙<image>"
    broken = RawTrace(context, images=[reference_to(picture())] * 3, image_faults={1: "x"})
    assert check_images(broken, keep=True)[0].context == "<image>甲乙<image>"


def test_text_alone(folder):
    row = {**CHAIN, "question": "<image>\n有几个?", "image": "images/a.png"}
    (trace,) = traces(folder, row, settings=ImageSettings(keep=False))
    assert trace.context == "有几个?" and not trace.images


def test_each_turn_has_the_images_that_it_has_seen(folder):
    think = f"<think>{CHAIN['reasoning']}</think>"
    turns = [message("user", "<image>一"), message("assistant", think + "3"), message("user", "<image>二")]
    row = {"messages": [*turns, message("assistant", think + "4")], "images": ["images/a.png", "images/b.png"]}
    (folder / "t.jsonl").write_text(json.dumps(row), encoding="utf-8")
    first, last = read_traces(folder / "t.jsonl", history="split")
    assert (len(first.images), len(last.images)) == (1, 2)


def test_captions_of_the_data(folder):
    rows = [{"caption": "三个苹果"}, {"image_captions": ["三个苹果"]}, {"caption": ["一", "二"]}, {"note": "三个苹果"}]
    found = traces(folder, *({**CHAIN, "image": "images/a.png", **row} for row in rows))
    assert [trace.captions for trace in found] == [["三个苹果"], ["三个苹果"], [], []]
    (trace,) = traces(
        folder, {**CHAIN, "image": "images/a.png", "note": "甲"}, settings=ImageSettings(caption_column="note")
    )
    assert trace.captions == ["甲"]


def test_records_of_other_images_are_other_records():
    first, second = (reference_to(picture(color)) for color in ((1, 2, 3), (3, 2, 1)))
    assert len({record_id("问", "", "7"), *(record_id("问", "", "7", [image]) for image in (first, second))}) == 3
    ours = [make_record("问", ["一"], "7", images=[image]) for image in (first, second, first)]
    assert ours[0]["id"] == ours[2]["id"] != ours[1]["id"]
    assert problem_key(ours[0]) == problem_key(ours[2]) != problem_key(ours[1])
    assert "images" not in make_record("问", ["一"], "7")


def test_pictures_become_upright_and_white_where_they_are_transparent():
    rotated, buffer = Pillow.new("RGB", (4, 2)), io.BytesIO()
    exif = rotated.getexif()
    exif[274] = 6
    rotated.save(buffer, "JPEG", exif=exif)
    assert open_image(reference_to(buffer.getvalue())).size == (2, 4)
    assert open_image(reference_to(Pillow.new("RGBA", (1, 1)))).getpixel((0, 0)) == (255, 255, 255)
    gray = Pillow.new("I;16", (1, 1), 40000)  # of an X-ray; PIL's own conversion makes it white
    assert open_image(reference_to(gray)).getpixel((0, 0)) == (156, 156, 156)
    with pytest.raises(ImageError, match="an image is a path, bytes or a picture, not int"):
        reference_to(3)
