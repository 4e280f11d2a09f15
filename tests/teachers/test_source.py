"""What `teacher_model_name_or_path` may mean, told apart before anything is loaded."""

import json

import pytest

from hf_reason.teachers import TeacherError, TeacherSource
from hf_reason.teachers.cache_format import FORMAT


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, file, content in (
        ("model", "config.json", {}),
        ("lora", "adapter_config.json", {}),
        ("cache", "cache.json", {"format": FORMAT}),
        ("stopped", "settings.json", {"format": FORMAT}),
        ("data", "train.jsonl", {}),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text(json.dumps(content))
    return tmp_path


@pytest.mark.parametrize(
    ("teacher", "kind", "value"),
    [
        ("self", "self", "self"),
        ("http://127.0.0.1:8000/v1/", "server", "http://127.0.0.1:8000/v1"),
        ("https://host/v1", "server", "https://host/v1"),
        ("Qwen/Qwen2.5-7B-Instruct", "model", "Qwen/Qwen2.5-7B-Instruct"),
        ("gpt2", "model", "gpt2"),
        ("model", "model", "model"),
        ("./model", "model", "./model"),
        ("lora", "model", "lora"),
        ("cache", "cache", "cache"),
    ],
)
def test_the_meanings_of_a_text(folders, teacher, kind, value):
    found = TeacherSource.parse(teacher)
    assert (found.kind, found.value) == (kind, value)
    assert TeacherSource.parse(found) is found


def test_paths_and_objects(folders):
    assert TeacherSource.parse(folders / "cache").kind == "cache"
    model = object()
    assert TeacherSource.parse(model) == TeacherSource("object", model)


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        (None, "There is no teacher. Give teacher_model_name_or_path"),
        ("", "There is no teacher"),
        ("out/some/model", "out/some/model: there is no such folder"),
        ("./nothing", "no such folder"),
        ("/nothing", "no such folder"),
        ("data", "neither a model .config.json. nor a teacher cache"),
        ("stopped", "unfinished. Run its hf-reason cache-teacher again"),
        ("ftp://host/v1", "is no URL of a server"),
        ("localhost:8000", "a URL begins with http"),
        ("http://me:secret@host/v1", "has a password in it"),
    ],
)
def test_what_is_no_teacher(folders, teacher, message):
    with pytest.raises(TeacherError, match=message):
        TeacherSource.parse(teacher)
