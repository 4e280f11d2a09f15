"""`prepare` with images: carried along by path or bytes, counted when broken, told apart by their content."""

import io
import json

import numpy as np
import pytest
from datasets import load_from_disk
from PIL import Image

from hf_reason.data import DataError, load_cot_sft_dataset, prepare, read_evaluation_records
from hf_reason.data.images import open_image

STEPS = ["先看左边的柱子,高度是{}。", "再看右边的柱子,高度是4。", "两个加起来:{}+4={}。"]


def picture(seed):
    noise = np.random.default_rng(seed).integers(0, 255, (12, 12, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    return buffer.getvalue()


def row(number, question="图中两根柱子一共多高?", **more):
    steps = [step.format(number, number, number + 4) for step in STEPS]
    return {"question": question, "steps": steps, "answer": str(number + 4), "image": f"images/{number}.png", **more}


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "raw"
    (folder / "images").mkdir(parents=True)

    def write(rows, pictures=range(60)):
        for number in pictures:
            (folder / f"images/{number}.png").write_bytes(picture(number))
        (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        return folder / "train.jsonl"

    return write


def made(raw, tmp_path, rows, **options):
    pictures = options.pop("pictures", range(60))
    return prepare(raw(rows, pictures), tmp_path / "out", progress=False, **options)


def test_images_are_carried_along(raw, tmp_path):
    rows = [*(row(number) for number in range(40)), {**row(1, "小明有3个苹果,买来4个,有几个?"), "image": None}]
    report = made(raw, tmp_path, rows)
    assert report["counts"]["images"] == {"images": 40, "records": 40} and report["counts"]["out"] == 41
    assert sum(report["splits"].values()) == 41
    records = [record for part in load_from_disk(tmp_path / "out").values() for record in part]
    assert sorted(len(record["images"]) for record in records) == [0, *[1] * 40]
    for record in records:
        for image in record["images"]:
            assert image["bytes"] is None and image["path"].endswith(f"images/{int(record['answer']) - 4}.png")
    assert load_cot_sft_dataset(data_dir=tmp_path / "out").column_names[-2:] == ["images", "captions"]


def test_bytes_make_a_data_set_that_can_be_moved(raw, tmp_path):
    made(raw, tmp_path, [row(number) for number in range(30)], images="bytes")
    for path in (tmp_path / "raw/images").iterdir():
        path.unlink()
    (tmp_path / "out").rename(tmp_path / "moved")
    for record in load_cot_sft_dataset(data_dir=tmp_path / "moved"):
        number = int(record["answer"]) - 4
        assert record["images"] == [{"bytes": picture(number), "path": f"{number}.png"}]
        assert open_image(record["images"][0]).size == (12, 12)


@pytest.mark.parametrize("sizes", [{"num_proc": 1, "chunk_size": 512}, {"num_proc": 1, "chunk_size": 3}])
def test_equal_texts_of_other_images_are_no_duplicates(raw, tmp_path, sizes):
    """Text, chain and answer of the first ten are equal; only the image is another one."""
    rows = [{**row(1), "image": f"images/{number}.png"} for number in range(10)]
    again = [{**rows[3]}, {**rows[4], "steps": [*rows[4]["steps"][:2], "两个加起来,1+4=5。"]}]
    report = made(raw, tmp_path, [*rows, *again], **sizes)
    assert report["counts"]["out"] == 10
    assert report["counts"]["filters"]["exact_duplicate"] + report["counts"]["filters"]["near_duplicate"] == 2
    assert len({name for part in load_from_disk(tmp_path / "out").values() for name in part["id"]}) == 10


def test_the_image_decides_the_split(raw, tmp_path):
    """One question of 30 images is in all splits; five questions of an image are in one."""
    asked = [
        "两根柱子一共多高?",
        "左边的柱子和右边的一起有多高?",
        "请问总高度是多少呢?",
        "把高度加起来等于几?",
        "合计?",
    ]
    rows = [row(number, question) for number in range(30) for question in asked]
    report = made(raw, tmp_path, rows, validation_size=0.2, test_size=0.2)
    assert min(report["splits"].values()) >= 10
    places = {}
    for split, part in load_from_disk(tmp_path / "out").items():
        for record in part:
            places.setdefault(record["images"][0]["path"], set()).add(split)
    assert len(places) == 30 and all(len(found) == 1 for found in places.values())


def test_broken_images_are_counted_and_dropped_or_kept(raw, tmp_path):
    rows = [row(number) for number in range(12)]
    raw([], [])
    (tmp_path / "raw/images/cut.png").write_bytes(picture(1)[:200])
    rows[4]["image"] = "images/cut.png"
    report = made(raw, tmp_path, rows)
    assert report["counts"]["filters"]["broken_image"] == 1
    for name in ("report.json", "report.html"):  # which may be shown to anybody
        assert str(tmp_path) not in (tmp_path / "out" / name).read_text(encoding="utf-8")
    rows[3]["image"], rows[4]["image"], rows[5]["image"] = "images/none.png", "images/4.png", "../secret.png"
    report = made(raw, tmp_path, rows, overwrite=True)
    assert report["counts"]["filters"]["broken_image"] == 2 and report["counts"]["out"] == 10
    said = [note for note in report["warnings"] if "image" in note]
    assert len(said) == 1 and "2 records were dropped" in said[0]
    assert "images/none.png: there is no such file" in said[0] or "secret.png lies outside of raw" in said[0]
    report = made(raw, tmp_path, rows, broken_images="keep", overwrite=True)
    assert report["counts"]["filters"]["broken_image"] == 0 and report["counts"]["out"] == 12
    assert report["counts"]["images"]["without_broken_ones"] == 2
    assert any("2 records were kept without an image" in note for note in report["warnings"])
    report = made(raw, tmp_path, rows, images="drop", overwrite=True)
    assert "images" not in report["counts"]
    assert "images" not in load_cot_sft_dataset(data_dir=tmp_path / "out").column_names


@pytest.mark.slow
def test_memory_is_bound_by_the_bytes_of_images(raw, tmp_path, monkeypatch):
    """Chunks and record batches are closed by the bytes in them; the result is the same."""
    from datasets import Dataset

    from hf_reason.data.prepare import chunks as chunk_files
    from hf_reason.data.prepare import pipeline, writer

    rows = [{**row(number), "image": {"bytes": picture(number), "path": None}} for number in range(30)]
    Dataset.from_list(rows).to_parquet(tmp_path / "train.parquet")
    results, chunks = [], []
    add = chunk_files.ChunkFiles.add

    def counted(self, index, chunk):
        chunks[-1] += 1
        add(self, index, chunk)

    monkeypatch.setattr(chunk_files.ChunkFiles, "add", counted)
    for limit in (1 << 20, 1000):
        monkeypatch.setattr(pipeline, "IMAGE_BYTES", limit)
        monkeypatch.setattr(writer, "_BATCH_BYTES", limit)
        chunks.append(0)
        prepare(tmp_path / "train.parquet", tmp_path / str(limit), progress=False)
        results.append((chunks[-1], load_from_disk(tmp_path / str(limit))["train"].to_list()))
    assert results[0][0] == 1 and results[1][0] > 10
    assert results[0][1] == results[1][1] and results[0][1][0]["images"][0]["bytes"]


def test_text_has_no_column_of_images(raw, tmp_path):
    report = made(raw, tmp_path, [{**row(number), "image": None} for number in range(5)])
    assert "images" not in report["counts"] and not {"images", "broken_images"} & report["settings"].keys()
    assert load_cot_sft_dataset(data_dir=tmp_path / "out").column_names[-1] == "source"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": "file"}, "Unknown images 'file'"),
        ({"broken_images": "fix"}, "Unknown broken_images 'fix'"),
        ({"image_folder": "nowhere"}, "image_folder nowhere: there is no such folder"),
        ({"images": "drop", "absolute_image_paths": True}, "would have no effect"),
    ],
)
def test_settings_that_cannot_be(raw, tmp_path, options, message):
    with pytest.raises(DataError, match=message):
        made(raw, tmp_path, [row(1)], pictures=[1], **options)


def test_evaluation_files_have_images(raw):
    (record,) = read_evaluation_records(raw([{"question": "多高?", "answer": "7", "image": "images/1.png"}], [1]))
    assert record["images"][0]["path"].endswith("1.png")
    with pytest.raises(DataError, match=r"train.jsonl#1: images/9.png: there is no such file"):
        read_evaluation_records(raw([{"question": "多高?", "answer": "7", "image": "images/9.png"}], []))
