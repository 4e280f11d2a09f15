"""Images from raw rows to a trained model, from the command line: with a model that sees, and in words without one."""

import json
import re

import pytest
from datasets import load_from_disk
from loopback_server import LoopbackServer
from pictures import png, tiny_processor, tiny_vision_model, with_marks
from tiny import tiny_qwen2

from hf_reason.cli.main import main
from hf_reason.teachers import client


@pytest.fixture
def place(tmp_path, records, tokenizer, monkeypatch):
    """Raw rows with pictures, a model that sees (with its processor), and one of text."""
    monkeypatch.setattr(client, "_BACKOFF", 0.001)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "raw/images").mkdir(parents=True)
    rows = []
    for number, record in enumerate(records[:30]):
        (tmp_path / f"raw/images/{number}.png").write_bytes(png(number))
        rows.append(
            {
                "question": record["context"],
                "steps": record["steps"],
                "answer": record["answer"],
                "image": f"images/{number}.png",
            }
        )
    (tmp_path / "raw/train.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    tokenizer = with_marks(tokenizer)
    tiny_vision_model("llava", tokenizer).save_pretrained("seeing")
    tiny_processor("llava", tokenizer).save_pretrained("seeing")
    tiny_qwen2(tokenizer).save_pretrained("text")
    tokenizer.save_pretrained("text")
    return tmp_path


class Seer(LoopbackServer):
    def answer(self, request):
        assert request["messages"][-1]["content"][0]["type"] == "image_url"
        message = {"role": "assistant", "content": "一张有噪点的图片"}
        return {"choices": [{"message": message, "finish_reason": "stop"}], "usage": {}}


def train(model, data, output):
    command = ["sft", "--model_name_or_path", model, "--dataset_name", data, "--output_dir", output]
    command += ["--max_steps", "2", "--per_device_train_batch_size", "2", "--use_cpu", "--report_to", "none"]
    command += [
        "--eval_max_completion_length",
        "8",
        "--max_test_records",
        "2",
        "--learning_rate",
        "1e-3",
        "--lr_scheduler_type",
        "constant",
    ]
    return main([*command, "--gradient_accumulation_steps", "1"])


def prepare(*options, output="data"):
    source = ["prepare", "--dataset_name", "raw/train.jsonl", "--output_dir", output, "--skip", "few_steps"]
    return main([*source, "--validation_size", "0.1", "--test_size", "0.2", *options])


@pytest.mark.parametrize("how", ["path", pytest.param("bytes", marks=pytest.mark.slow)])
def test_a_model_that_sees_is_trained_with_its_processor(place, capsys, how):
    assert prepare("--images", how) == 0
    assert train("seeing", "data", "out") == 0
    for name in ("processor_config.json", "model.safetensors", "evaluation"):
        assert (place / "out" / name).exists()
    command = ["evaluate", "--model_name_or_path", "out", "--dataset_name", "data", "--max_records", "2", "--use_cpu"]
    assert main([*command, "--max_completion_length", "8"]) == 0
    assert main([*command[:3], "--dataset_name", "raw/train.jsonl", *command[5:], "--max_completion_length", "8"]) == 0
    assert "out" in capsys.readouterr().out


@pytest.mark.slow
def test_a_model_of_text_is_trained_on_captions(place, capsys):
    assert prepare("--images", "bytes") == 0
    assert train("text", "data", "refused") == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.search(r"\(qwen2\) reads text alone.*augment --captions 1 --replace", error)
    server = Seer("seer")
    try:
        command = ["augment", "--dataset_name", "data", "--output_dir", "words", "--captions", "1", "--replace"]
        command += ["--captioner_model_name_or_path", server.url]
        assert main(command) == 0
        asked = len(server.requests)
        assert main(command) == 0 and len(server.requests) == asked
    finally:
        server.close()
    splits = load_from_disk("words")
    assert asked == sum(map(len, splits.values()))
    for rows in splits.values():
        assert all(row["context"].startswith("图片:一张有噪点的图片\n") and not row["images"] for row in rows)
    assert train("text", "words", "out") == 0
    everything = "".join(path.read_text("utf-8") for path in (place / "words").rglob("*.json*"))
    assert "127.0.0.1" not in everything and str(place) not in everything


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("evaluate --model_name_or_path text --split train --use_cpu", r"\(qwen2\) reads text alone"),
        pytest.param(
            "sft --model_name_or_path seeing --output_dir out --use_cpu --packing true",
            "without packing",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_commands_that_cannot_use_images_say_so(place, capsys, command, message):
    assert prepare() == 0
    assert main([*command.split(), "--dataset_name", "data"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("Error: ") and re.search(message, error), error


@pytest.mark.slow
def test_a_captioner_in_this_process(place, capsys):
    assert prepare() == 0
    command = ["augment", "--dataset_name", "data", "--output_dir", "words", "--captions", "0.5", "--use_cpu"]
    command += ["--captioner_model_name_or_path", "seeing", "--max_completion_length", "4", "--num_beams", "1"]
    assert main(command) == 0
    assert "a description that is empty or was cut" in capsys.readouterr().out
    command = [*command[:4], "other", *command[5:7], "--captioner_model_name_or_path", "text"]
    assert main(command) == 2
    assert "captioner_model_name_or_path 'text' reads no images" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--captions", "2"], "captions is a fraction of the records.*got 2"),
        (["--captioner_model_name_or_path", "x", "--distractors", "1"], "no effect: captions is not given"),
        (["--captions", "1", "--caption_prompt", "x"], "no effect: there is no captioner_model_name_or_path"),
        (["--captions", "1", "--replace", "--distractors", "1"], "Run it alone"),
        (["--captions", "1", "--captioner_model_name_or_path", "x", "--temperature", "1"], "does not sample"),
        (["--captions", "1", "--captioner_model_name_or_path", "x", "--parallel", "2"], "no model is a server"),
        (["--captions", "1", "--num_beams", "2"], "no model translates or describes"),
    ],
)
def test_refusals_of_captions(capsys, arguments, message):
    assert main(["augment", "--dataset_name", "data", "--output_dir", "out", *arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.search(message, error), error


@pytest.mark.slow
def test_lora_sees_too(place):
    assert prepare("--images", "bytes") == 0
    command = ["lora", "--model_name_or_path", "seeing", "--dataset_name", "data", "--output_dir", "out"]
    command += ["--reasoner_layers", "all", "--lora_r", "2", "--max_steps", "2", "--per_device_train_batch_size", "2"]
    command += ["--use_cpu", "--report_to", "none", "--max_test_records", "2", "--eval_max_completion_length", "8"]
    assert main(command) == 0
    assert (place / "out" / "processor_config.json").exists() and (place / "out" / "evaluation").exists()
