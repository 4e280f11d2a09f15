"""Names with `..`, absolute paths and links, in data and Hub repositories, write and read nothing outside."""

import io
import json
import os
import zipfile

import pytest
from hostile import files_of, upload
from hub_server import HubServer
from tiny import run_python, save_model, tiny_qwen2

ROW = {"input": "1+1等于几？", "reasoning_content": "1+1=2", "content": "2"}
# Reads every data set and loads every model that it is given, and says what came of it.
CLIENT = """
import json, sys
from itertools import islice
from hf_reason.cli.generation_arguments import InferenceArguments
from hf_reason.cli.inputs.inference import load_for_inference
from hf_reason.compression.gptq_files import GPTQCheckpoint
from hf_reason.data.read.sources import read_traces
from hf_reason.serving.engines.template import load_template
found = {}
for name in json.loads(sys.argv[1]):
    try:
        found[name] = [trace.context for trace in islice(read_traces(name), 5)]
    except ValueError as error:
        found[name] = str(error)
for name in json.loads(sys.argv[2]):
    whole = lambda name: load_for_inference(name, InferenceArguments(use_cpu=True))
    for load in (load_template, GPTQCheckpoint.read, whole):
        try:
            load(name)
        except (ValueError, OSError) as error:
            found[name] = str(error)
print("\\n" + json.dumps(found))
"""


def _outside(folder, inside):
    """Files below a folder that are not below one of these."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    return sorted(str(path) for path in found if not any(path.is_relative_to(place) for place in inside))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_repositories_of_the_hub(tmp_path, tokenizer):
    line = (json.dumps(ROW, ensure_ascii=False) + "\n").encode()
    secret = tmp_path / "secret" / "key.jsonl"
    secret.parent.mkdir()
    secret.write_text(json.dumps({**ROW, "input": "SECRET"}) + "\n")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("../../../../../../evil.jsonl", line)
        archive.writestr(f"{tmp_path}/evil-absolute.jsonl", line)

    def card(path, key="data_files"):
        return {
            "README.md": f"---\nconfigs:\n- config_name: default\n  {key}: {path}\n---\n".encode(),
            "data.jsonl": line,
        }

    data = {
        "good": {"data.jsonl": line},
        "absolute": card(secret),
        "scheme": card(f"file://{secret}"),
        "dots": card(f"../../../../../../../..{secret}"),
        "folder": card(secret.parent, "data_dir"),
        "archive": {"data.zip": packed.getvalue()},
        "above": {"../../../evil.jsonl": line, "data.jsonl": line},
    }
    save_model(tmp_path / "good", tiny_qwen2(tokenizer), tokenizer)
    good = files_of(tmp_path / "good")
    index = json.dumps({"metadata": {}, "weight_map": {"lm_head.weight": "../../../../../evil.safetensors"}}).encode()
    weightless = {name: content for name, content in good.items() if "safetensors" not in name}
    models = {
        "m-above": {**good, "../../../../../evil.json": b"{}", "x/../../../../../../evil2.json": b"{}"},
        "m-index": {**weightless, "model.safetensors.index.json": index},
    }
    with HubServer(tmp_path / "hub") as hub:
        for name, files in data.items():
            upload(hub, f"tester/{name}", files, "dataset")
        for name, files in models.items():
            upload(hub, f"tester/{name}", files)
        before = _outside(tmp_path, [tmp_path / "hub"])
        names = [json.dumps([f"tester/{name}" for name in some]) for some in (data, models)]
        done = run_python(
            "-c", CLIENT, *names, env=hub.env("client", HF_DATASETS_OFFLINE="0"), cwd=tmp_path / "secret"
        )
        assert done.returncode == 0, done.stderr[-3000:]
        after = _outside(tmp_path, [tmp_path / "hub"])
        written = _outside(tmp_path / "hub", [tmp_path / "hub" / "client", tmp_path / "hub" / "blobs"])
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["tester/good"] == [ROW["input"]]
    assert "SECRET" not in json.dumps(found) and after == before and not written
    assert not list(tmp_path.rglob("evil*"))


def test_names_in_records_are_no_paths(tmp_path, monkeypatch):
    """Ids, domains, sources and the data's own file names with `..` and absolute paths."""
    from hf_reason.data import prepare
    from hf_reason.data.synthetic.word_problems import generate_word_problems

    monkeypatch.chdir(tmp_path)
    evil = ["../../evil", f"{tmp_path}/evil", "a/../../evil", "..", "C:\\evil", "evil\x00"]
    rows = [
        {**row, "id": evil[number % 6], "domain": evil[number % 6], "source": evil[number % 6], "split": evil[0]}
        for number, row in enumerate(generate_word_problems(30))
    ]
    (tmp_path / "raw").mkdir()
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (tmp_path / "raw" / "..evil.jsonl").write_text(lines, encoding="utf-8")
    report = prepare(tmp_path / "raw" / "..evil.jsonl", tmp_path / "out", progress=False)
    assert report["counts"]["out"] > 0
    assert sorted(os.listdir(tmp_path)) == ["out", "raw"] and os.listdir(tmp_path / "raw") == ["..evil.jsonl"]


def test_a_link_in_a_folder_is_read_but_never_written_through(tmp_path):
    """An output folder in which somebody has put links to files elsewhere."""
    from hf_reason._files import write_atomically, write_json_atomically

    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "elsewhere" / "precious.json"
    target.write_text("precious")
    folder = tmp_path / "out"
    folder.mkdir()
    for name, write in (
        ("report.json", lambda path: write_json_atomically(path, {"a": 1})),
        ("report.html", lambda path: write_atomically(path, "text")),
    ):
        (folder / name).symlink_to(target)
        write(folder / name)
        assert not (folder / name).is_symlink()
    assert target.read_text() == "precious"
