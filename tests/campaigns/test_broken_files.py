"""Broken chat templates, instructions, adapters and top-k caches: one error with a reason, or the right content."""

import json
import shutil

import numpy as np
import pytest
import yaml
from broken import EXAMPLES, anything, campaign, is_of_the_user, sizes, texts
from datasets import Dataset
from hypothesis import strategies as st
from tiny import save_model, tiny_qwen2

from hf_reason.text import check_round_trip, encode, end_token_id
from hf_reason.text.conversation import build_conversation
from hf_reason.text.instructions import load_instructions

PIECES = [
    *("{% for m in messages %}", "{% endfor %}", "{{ m['content'] }}", "{{ m.role }}", "{{ messages[0]['content'] }}"),
    *("{% if add_generation_prompt %}", "{% endif %}", "{% else %}", "<|user|>", "<|assistant|>", "<think>\n"),
    *("<think>\n\n</think>\n\n", "{{ bos_token }}", "{{ eos_token }}", "{{ 1 / 0 }}", "{{ undefined.x }}"),
    *("{{ raise_exception('no') }}", "{% set x = messages[5] %}", "{{ messages | length + 'a' }}", "{{ m }}"),
    *("{{ ''.join(messages) }}", "{{ [1, 2][7] }}", "{{ {}['a'] }}", "{{ range(999999999) | list }}", "{%", "}}"),
    *("{% if enable_thinking is false %}", "{% macro f() %}", "{% endmacro %}", "{{ f() }}", "{{ 'a' * 100 }}"),
    *("{{ m['content'].split('</think>')[-1] }}", "{{ m['content'] | tojson }}", "{% break %}", "{{ 10 ** 9 }}"),
    *("{{ (m.content | int) % 0 }}", "{{ '%d' % m.content }}", "{{ strftime_now('%Y') }}", "{{ strftime_now(1) }}"),
]
templates = st.lists(st.sampled_from(PIECES) | texts, max_size=10).map("".join)
TURNS = [
    {"role": "system", "content": "s"},
    {"role": "user", "content": "问一"},
    {"role": "assistant", "content": "<think>\n想\n</think>\n\n答"},
    {"role": "user", "content": "问二"},
]


def _or_an_error(work, what=""):
    """The result, or `None` after an error that a command would show in one line."""
    try:
        return work()
    except Exception as error:
        assert is_of_the_user(error) and len(str(error)) > 10, (type(error).__name__, str(error)[:300], what)
        return None


@sizes(60, EXAMPLES // 4)
def test_templates(tokenizer, records, examples):
    """2,500 of them: a quarter of HF_REASON_FUZZ. One that is accepted keeps problem, chain and answer."""

    def check(text):
        tokenizer.chat_template = text
        _or_an_error(lambda: check_round_trip(tokenizer), text)
        _or_an_error(lambda: end_token_id(tokenizer), text)
        _or_an_error(lambda: build_conversation(TURNS, tokenizer), text)
        row = _or_an_error(lambda: encode(records[0], tokenizer), text)
        if row is not None:
            assert len({len(column) for column in row.values()}) == 1

    campaign(examples, templates, check)


@sizes(40, EXAMPLES // 10)
def test_instructions(tmp_path, examples):
    """1,000 of them: a tenth of HF_REASON_FUZZ."""
    path = tmp_path / "i.yaml"
    domains = st.sampled_from(["math", "default", "finance", "general"]) | texts
    good = st.sampled_from(["题：{context}", "{task}{context}{domain}", "{{}}", "{", "{context", "{0}", "{context.x}"])

    def check(content):
        try:
            path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8", errors="surrogatepass")
        except Exception:  # what PyYAML itself cannot write
            return
        found = _or_an_error(lambda: load_instructions(path), content)
        assert found is None or all(isinstance(text, str) for text in found.values())

    campaign(examples, st.dictionaries(domains, good | anything, max_size=4) | anything, check)


@st.composite
def damages(draw):
    """(which file, how): cut, bits turned over, other bytes, empty, a value of its JSON exchanged, or gone."""
    way = draw(st.sampled_from(["cut", "bits", "junk", "empty", "json", "json", "json", "gone", "folder"]))
    places = [draw(st.floats(0, 0.999)) for _ in range(4)]
    return draw(st.integers(0, 10)), way, places, draw(texts), draw(anything), draw(st.binary(max_size=40))


def _damage(folder, damage, keys):
    number, way, places, name, value, junk = damage
    files = sorted(path for path in folder.rglob("*") if path.is_file() and keys(path))
    path = files[number % len(files)]
    content = bytearray(path.read_bytes())
    if way == "json" and path.suffix == ".json":
        loaded = json.loads(content)
        known = sorted(loaded)
        key = known[int(places[0] * len(known))] if places[1] < 0.9 else name
        changed = value if places[2] < 0.05 else {**loaded, key: value}
        if places[3] < 0.2:
            changed = {other: item for other, item in loaded.items() if other != key}
        content = bytearray(json.dumps(changed).encode("utf-8", "surrogatepass"))
    elif way == "cut":
        content = content[: int(places[0] * len(content))]
    elif way == "bits" and content:
        for place in places:
            content[int(place * len(content))] ^= 1 << int(place * 8)
    elif way == "junk":
        content = bytearray(junk)
    elif way == "empty":
        content = bytearray()
    path.unlink()
    if way == "folder":
        path.mkdir()
    elif way != "gone":
        path.write_bytes(bytes(content))
    return f"{path.name}: {way} {name!r} {value!r} {places}"


@pytest.fixture
def adapter(tmp_path, tokenizer, records):
    """An adapter on its base, as a run leaves it."""
    from peft import LoraConfig
    from tiny import tiny_trainer

    from hf_reason.trainers import CoTSFTConfig, CoTSFTTrainer

    base = save_model(tmp_path / "base", tiny_qwen2(tokenizer), tokenizer)
    lora = LoraConfig(r=2, target_modules=["q_proj", "v_proj"])
    trainer = tiny_trainer(
        CoTSFTTrainer, CoTSFTConfig, tmp_path / "run", base, tokenizer, records[:4], None, {"peft_config": lora}
    )
    trainer.save_model(tmp_path / "adapter")
    return tmp_path / "adapter"


@sizes(8, EXAMPLES // 40)
def test_adapters(adapter, tmp_path, examples):
    """250 of them: a fortieth of HF_REASON_FUZZ."""
    from hf_reason.cli.generation_arguments import InferenceArguments
    from hf_reason.cli.inputs.inference import load_for_inference

    broken = tmp_path / "broken"
    ours = ("adapter_config.json", "adapter_model.safetensors", "base_model.json")

    def check(damage):
        shutil.rmtree(broken, ignore_errors=True)
        shutil.copytree(adapter, broken)
        what = _damage(broken, damage, lambda path: path.name in ours)
        _or_an_error(lambda: load_for_inference(str(broken), InferenceArguments(use_cpu=True)), what)

    campaign(examples, damages(), check)


@pytest.fixture
def cache(tmp_path, tiny_model, tokenizer, records):
    from hf_reason.teachers import CacheBuilder, CacheSettings, LiveTeacher

    rows = Dataset.from_list([{**encode(row, tokenizer), "id": row["id"]} for row in records[:8]])
    settings = CacheSettings(
        "t", "t", vocab_size=len(tokenizer), top_k=8, rows_per_shard=3, tail_samples=2, path_consistency=True
    )
    teacher = LiveTeacher(tiny_model.eval(), len(tokenizer))
    builder = CacheBuilder(tmp_path / "cache", {"train": rows}, teacher, tokenizer, settings)
    builder.start()
    builder.build()
    builder.finish()
    return builder.folder


@sizes(20, EXAMPLES // 10)
def test_top_k_caches(cache, tmp_path, tokenizer, records, examples):
    """1,000 of them: a tenth of HF_REASON_FUZZ. What is read of a damaged cache is what was written, or an error."""
    from hf_reason.teachers import TopKCache

    broken = tmp_path / "broken"
    rows = Dataset.from_list([encode(row, tokenizer) for row in records[:8]])
    names = [row["id"] for row in records[:8]]
    whole = TopKCache(cache)
    written = [whole.row(number) for number in range(len(whole))]

    def read():
        found = TopKCache(broken)
        found.link(rows, names, "train", None, load_from_cache_file=False)
        return [found.row(number) for number in range(len(found))]

    def check(damage):
        shutil.rmtree(broken, ignore_errors=True)
        shutil.copytree(cache, broken)
        what = _damage(broken, damage, lambda path: path.suffix in (".json", ".parquet"))
        found = _or_an_error(read, what)
        for before, after in zip(written, found or [], strict=bool(found)):
            for one, other in zip(before, after, strict=True):
                np.testing.assert_array_equal(one, other, err_msg=what)

    campaign(examples, damages(), check)
