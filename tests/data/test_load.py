"""`load_cot_sft_dataset`: a domain of a prepared folder, a Hub data set or the built-in sample."""

import json
import random

import datasets
import pytest

from hf_reason.data import DOMAINS, DataError, load_cot_sft_dataset, make_record, prepare
from hf_reason.data.record import RECORD_FIELDS, record_features

_FINANCE = "某公司的股票价格为{a}元,投资者买入{b}股,银行贷款利率是百分之{c},求投资的总成本。"
_MEDICAL = "一位患者的体重是{a}千克,医生开出的药物剂量为每千克{b}毫克,分{c}次服用,求每次剂量。"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    rows = []
    for number in range(80):
        rng = random.Random(number)
        a, b, c = rng.randrange(20, 99), rng.randrange(2, 50), rng.randrange(2, 9)
        finance = number % 2 == 0
        text = (_FINANCE if finance else _MEDICAL).format(a=a, b=b, c=c)
        steps = [f"先读题,第一个量是{a}", f"第二个量是{b},相乘得{a}×{b}={a * b}", f"第三个量是{c},核对无误"]
        rows.append({"context": text, "task_desc": "", "steps": steps, "domain": "finance" if finance else "medical"})
    place = tmp_path_factory.mktemp("load")
    source = place / "raw.jsonl"
    source.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    prepare(source, place / "prepared", test_size=0, progress=False)
    return place / "prepared"


def test_a_domain_of_a_folder(folder):
    everything = load_cot_sft_dataset(data_dir=folder)
    finance = load_cot_sft_dataset("finance", data_dir=str(folder))
    assert set(finance["domain"]) == {"finance"}
    assert len(finance) == everything["domain"].count("finance") > 10
    assert finance.column_names == list(RECORD_FIELDS) and finance.features == record_features()
    assert len(load_cot_sft_dataset(split="validation", data_dir=folder)) > 0


def test_errors_name_what_is_there(folder, tmp_path):
    with pytest.raises(DataError, match="Unknown domain 'physics'.*all, finance, medical"):
        load_cot_sft_dataset("physics", data_dir=folder)
    with pytest.raises(DataError, match="no split 'test'. It has: train, validation"):
        load_cot_sft_dataset(split="test", data_dir=folder)
    with pytest.raises(DataError, match=r"of the domain 'legal'. There is: finance \(\d+\), medical \(\d+\)"):
        load_cot_sft_dataset("legal", data_dir=folder)
    with pytest.raises(DataError, match="it holds prepared, raw.jsonl. Prepare it first"):
        load_cot_sft_dataset(data_dir=folder.parent)
    with pytest.raises(DataError, match="is a file"):
        load_cot_sft_dataset(data_dir=folder.parent / "raw.jsonl")
    with pytest.raises(DataError, match="Give its parent folder"):
        load_cot_sft_dataset(data_dir=folder / "train")
    with pytest.raises(DataError, match="there is no such folder"):
        load_cot_sft_dataset(data_dir=tmp_path / "missing")
    (tmp_path / "half" / ".work").mkdir(parents=True)
    with pytest.raises(DataError, match="unfinished preparation"):
        load_cot_sft_dataset(data_dir=tmp_path / "half")


def test_hub_name(monkeypatch):
    rows = [make_record("问", ["一", "二"], "答", domain="legal", source="x#1") | {"extra": 1}]
    hub = {"user/prepared": datasets.Dataset.from_list(rows), "user/raw": datasets.Dataset.from_list([{"input": "x"}])}

    def load(name):
        if name not in hub:
            raise ConnectionError("cannot reach it\nlong story")
        return datasets.DatasetDict(train=hub[name])

    monkeypatch.setattr(datasets, "load_dataset", load)
    found = load_cot_sft_dataset("legal", data_dir="user/prepared")
    assert found[0]["context"] == "问" and found.column_names == list(RECORD_FIELDS)
    with pytest.raises(DataError, match="user/raw is not a prepared data set: it lacks id.*its columns: input"):
        load_cot_sft_dataset(data_dir="user/raw")
    with pytest.raises(DataError, match=r"user/none is neither a folder .*ConnectionError: cannot reach it\)"):
        load_cot_sft_dataset(data_dir="user/none")


def test_built_in_sample_is_prepared_once(tmp_path, monkeypatch):
    import huggingface_hub.constants

    from hf_reason.data.prepare import pipeline

    monkeypatch.setattr(huggingface_hub.constants, "HF_HOME", str(tmp_path))
    train = load_cot_sft_dataset()
    assert set(train["domain"]) == set(DOMAINS)
    medical = load_cot_sft_dataset("medical", split="train")
    assert len(medical) > 0 and set(medical["domain"]) == {"medical"}
    made = [path.name for path in (tmp_path / "hf_reason").iterdir()]
    assert len(made) == 1 and made[0].startswith("sample-")
    monkeypatch.setattr(pipeline, "run", None)
    assert load_cot_sft_dataset()["id"] == train["id"]


@pytest.mark.parametrize("name", ["traces.jsonl", "data/traces.csv", "a/b.JSONL.gz"])
def test_a_file_that_does_not_exist(name):
    with pytest.raises(DataError, match=f"^{name}: there is no such file.$"):
        load_cot_sft_dataset("all", data_dir=name)
