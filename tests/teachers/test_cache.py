"""The top-k cache: round trip, size, resume, shards, and every way in which one can be wrong (pains 10, 11)."""

import copy
import json
import shutil

import numpy as np
import pytest
import torch
from datasets import Dataset

from hf_reason.losses import step_similarities, step_vectors
from hf_reason.teachers import CacheBuilder, CacheSettings, LiveTeacher, TeacherError, TeacherSource, TopKCache
from hf_reason.teachers.cache import CacheCollator
from hf_reason.teachers.cache_format import CachedRow, pack_row, tokens_hash, unpack_row, write_shard
from hf_reason.teachers.top_k import systematic
from hf_reason.text import encode

K = 8


@pytest.fixture
def teacher(tiny_model, tokenizer):
    with torch.no_grad():
        tiny_model.lm_head.weight.mul_(30)
    return LiveTeacher(tiny_model.eval(), len(tokenizer))


def _splits(records, tokenizer):
    rows = [{**encode(record, tokenizer), "id": record["id"]} for record in records]
    return {"train": Dataset.from_list(rows[:12]), "validation": Dataset.from_list(rows[12:16])}


def _settings(tokenizer, **changes):
    values = {"teacher_model_name_or_path": "t", "tokenizer_name_or_path": "t", "top_k": K, "path_consistency": True}
    values["vocab_size"] = len(tokenizer)
    return CacheSettings(**{**values, "rows_per_shard": 5, **changes})


@pytest.fixture
def builder(tmp_path, teacher, tokenizer, records):
    def make(**changes):
        options = {"batch_size": 3, **{name: changes.pop(name) for name in ("process",) if name in changes}}
        chosen = changes.pop("records", records)
        return CacheBuilder(
            tmp_path / "cache",
            _splits(chosen, tokenizer),
            teacher,
            tokenizer,
            _settings(tokenizer, **changes),
            **options,
        )

    return make


def _build(builder):
    builder.start()
    builder.build()
    return builder.finish()


def test_row_survives_its_bytes():
    rng = np.random.default_rng(0)
    below = np.tril(rng.normal(size=(4, 4)).astype(np.float16), -1)
    row = CachedRow(
        rng.integers(0, 2**24, (6, K)),
        -rng.exponential(3, (6, K)).astype(np.float16),
        np.array([-1.5, -np.inf, 0, -7, -60, -1e-3], dtype=np.float16),
        rng.integers(0, 2**24, (6, 3)),
        -rng.exponential(3, 6).astype(np.float16),
        below + below.T + np.eye(4, dtype=np.float16),
    )
    for found, expected in zip(unpack_row(pack_row(row), K, 3), row, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert unpack_row(pack_row(row._replace(similarities=None)), K, 3).similarities is None
    none = row._replace(tail_ids=row.tail_ids[:, :0])
    assert unpack_row(pack_row(none), K, 0).tail_ids.shape == (6, 0)


def test_cache_holds_the_teachers_distributions(builder, teacher, tokenizer, records):
    meta = _build(builder())
    cache = TopKCache(builder().folder, path_consistency=True)
    assert len(cache) == 16 and len(meta["shards"]) == 4
    for record in records[:16]:
        row = encode(record, tokenizer)
        found = cache.row(cache.find(record["id"], row["input_ids"], row["labels"]))
        ids = torch.tensor([row["input_ids"]])
        with torch.no_grad():
            output = teacher.model(ids, output_hidden_states=True)
        target = torch.tensor(row["labels"])[1:] != -100
        expected = output.logits[0, :-1][target].log_softmax(-1)
        best, best_ids = expected.topk(K)
        assert torch.equal(torch.from_numpy(found.ids), best_ids)
        np.testing.assert_allclose(found.log_probs, best.numpy(), rtol=1e-3, atol=1e-3)
        tail = np.log1p(-best.double().exp().sum(-1).clamp(max=1 - 1e-9).numpy())
        np.testing.assert_allclose(found.log_tail, tail, rtol=5e-3, atol=5e-3)
        assert found.tail_ids.shape == (len(best), 8)
        assert not any(set(a) & set(b) for a, b in zip(found.ids.tolist(), found.tail_ids.tolist(), strict=True))
        mean = expected.gather(1, torch.from_numpy(found.tail_ids)).mean(1)
        np.testing.assert_allclose(found.tail_log_prob, mean, rtol=1e-3)
        vectors, _ = step_vectors(output.hidden_states[-1], torch.tensor([row["step_ids"]]))
        np.testing.assert_allclose(found.similarities, step_similarities(vectors)[0], atol=2e-3)


def test_a_token_takes_at_most_160_bytes_at_32(tmp_path):
    """Ids drawn evenly from the real vocabulary's 151,936: no teacher's can be harder to pack."""
    rng = np.random.default_rng(0)
    rows, count = [], 200
    for number in range(40):
        log_probs = -np.sort(rng.exponential(4, (count, 32)), axis=1)
        ids = rng.integers(0, 151_936, (count, 32))
        tail = rng.integers(0, 151_936, (count, CacheSettings.tail_samples))
        row = CachedRow(ids, log_probs, -rng.exponential(3, count), tail, -rng.exponential(4, count) - 8, None)
        rows.append({"id": f"{number:016x}", "tokens_hash": rng.bytes(16), **pack_row(row)})
    write_shard(tmp_path / "shard.parquet", rows)
    assert (tmp_path / "shard.parquet").stat().st_size / (40 * count) <= 160


def test_tail_is_sampled_in_proportion_to_its_probability():
    log_probs = torch.tensor([[0.5, 0.0, 0.125, 0.375], [0.0, 1.0, 0.0, 0.0]]).log()
    starts, met = torch.rand(4000, generator=torch.Generator().manual_seed(0)).double(), torch.zeros(2, 4)
    for start in starts.split(1):
        for row, ids in enumerate(systematic(log_probs, start.expand(2), 3)):
            met[row] += torch.bincount(ids, minlength=4)
    assert met[0, 1] == 0 and met[1].tolist() == [0, 12000, 0, 0]
    assert torch.allclose(met / 12000, log_probs.exp(), atol=0.01)
    # with as many points, every token of at least a point's share is met
    assert set(systematic(log_probs, torch.tensor([0.3, 0.3]), 8)[0].tolist()) == {0, 2, 3}


def test_samples_do_not_hang_on_the_batch(builder, tmp_path):
    folder = builder().folder
    kept = []
    for size in (3, 1):
        made = builder()
        made.batch_size = size
        _build(made)
        cache = TopKCache(folder)
        kept.append({name: cache.row(number) for (name, _), number in cache._index.items()})
        shutil.rmtree(folder)
    for name, row in kept[0].items():
        np.testing.assert_array_equal(row.tail_ids, kept[1][name].tail_ids)


def test_error_of_the_kl_is_reported(builder, teacher):
    made = builder(path_consistency=False)
    error = made.error()
    other = LiveTeacher(copy.deepcopy(teacher.model), teacher.vocab_size)
    assert error["kl_cache"] > 0 and 0 < error["mass"] < 1 and error["records"] == 12
    # the rest as one event is a lower bound, and samples of it mend that
    bare = builder(path_consistency=False, tail_samples=0).error()
    assert bare["kl_cache"] < bare["kl"] and error["relative_error"] < bare["relative_error"] / 5
    assert builder(path_consistency=False, top_k=teacher.vocab_size).error()["relative_error"] < 2e-3
    same = made.error(other)
    assert same["kl"] == pytest.approx(0, abs=1e-6)


def test_two_processes_share_the_shards_and_give_what_one_gives(builder, tmp_path):
    first, second = builder(process=(0, 2)), builder(process=(1, 2))
    first.start()
    first.build()
    with pytest.raises(TeacherError, match="a process has failed"):
        first.finish()
    second.start()
    second.build()
    first.finish()
    cache = TopKCache(first.folder)
    assert len(cache) == 16 and len(cache._index) == 16


def test_stopped_caching_goes_on_where_it_was(builder, monkeypatch):
    made = builder()
    made.start()
    read, calls = made._read, []

    def fail(examples):
        calls.append(len(examples))
        if sum(calls) > 7:
            raise KeyboardInterrupt
        return read(examples)

    monkeypatch.setattr(made, "_read", fail)
    with pytest.raises(KeyboardInterrupt):
        made.build()
    with pytest.raises(TeacherError, match="unfinished"):
        TopKCache(made.folder)
    written = {path: path.stat().st_mtime_ns for path in made.folder.glob("*.parquet")}
    assert len(written) == 1
    again = builder()
    again.start()
    again.build()
    again.finish()
    assert all(path.stat().st_mtime_ns == time for path, time in written.items())
    assert len(TopKCache(made.folder)) == 16


@pytest.mark.parametrize(
    "change",
    [{"top_k": 4}, {"temperature": 2.0}, {"teacher_model_name_or_path": "another"}, {"path_consistency": False}],
)
def test_a_cache_made_otherwise_is_not_mixed(builder, change):
    _build(builder())
    with pytest.raises(TeacherError, match=next(iter(change))):
        builder(**change).start()


def test_a_cache_of_other_data_is_not_continued(builder, records):
    builder().start()
    with pytest.raises(TeacherError, match="data"):
        builder(records=records[20:40]).start()


def test_damage_is_named(builder):
    meta = _build(builder())
    folder = builder().folder
    shard = folder / next(iter(meta["shards"]))
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TeacherError, match=rf"{shard.name} is damaged"):
        TopKCache(folder)
    shard.unlink()
    with pytest.raises(TeacherError, match=rf"lacks .*{shard.name}"):
        TopKCache(folder)
    again = builder()
    again.start()
    again.build()
    again.finish()
    assert len(TopKCache(folder)) == 16
    shard.write_bytes((folder / list(meta["shards"])[2]).read_bytes())
    with pytest.raises(TeacherError, match="instead of 5"):
        TopKCache(folder)
    (folder / "cache.json").write_text("{")
    with pytest.raises(TeacherError, match=r"cache.json is damaged"):
        TopKCache(folder)
    (folder / "cache.json").write_text(json.dumps({**meta, "format": 99}))
    with pytest.raises(TeacherError, match="format 99"):
        TopKCache(folder)
    with pytest.raises(TeacherError, match="no teacher cache"):
        TopKCache(folder.parent)


def test_a_cache_of_an_older_format_is_refused_with_the_command_that_rebuilds_it(tmp_path, builder):
    """Format 2, of version 0.1, had other names; so does a stopped run of it."""
    (tmp_path / "cache").mkdir()
    command = (
        "format 2, this version reads 3.*cache-teacher --dataset_name DATASET --teacher_model_name_or_path big/one"
    )
    old = json.dumps({"format": 2, "teacher": "big/one", "k": 8, "shards": {}})
    (tmp_path / "cache" / "settings.json").write_text(old)
    with pytest.raises(TeacherError, match=command):
        builder().start()
    (tmp_path / "cache" / "cache.json").write_text(old)
    with pytest.raises(TeacherError, match=command):
        TopKCache(tmp_path / "cache")
    with pytest.raises(TeacherError, match=command):
        TeacherSource.parse(tmp_path / "cache")


def test_old_names_of_the_settings_say_the_new_ones():
    for old, new in (("k", "top_k"), ("path", "path_consistency"), ("teacher", "teacher_model_name_or_path")):
        with pytest.raises(TypeError, match=f"'{old}', which is called '{new}'"):
            CacheSettings(**{"vocab_size": 9, old: 1})


def test_what_does_not_belong_to_the_training_is_refused(builder):
    _build(builder(path_consistency=False))
    with pytest.raises(TeacherError, match="temperature 1.0.*uses 2.0"):
        TopKCache(builder().folder, temperature=2.0)
    with pytest.raises(TeacherError, match="--path_consistency true"):
        TopKCache(builder().folder, path_consistency=True)


def test_records_are_linked_by_id_and_tokens(builder, tokenizer, records):
    """Pain 11."""
    _build(builder())
    cache = TopKCache(builder().folder)
    rows = Dataset.from_list([encode(record, tokenizer) for record in records[:16]])
    names = [record["id"] for record in records[:16]]
    linked = cache.link(rows, names, "train", None)
    for row, record in zip(linked, records, strict=False):
        numbers, places = np.asarray(row["teacher_rows"]), np.asarray(row["teacher_places"])
        target = np.asarray(row["labels"]) != -100
        assert (numbers[~target] == -1).all() and (places[~target] == -1).all()
        assert (places[target] == np.arange(target.sum())).all()
        (number,) = set(numbers[target].tolist())
        key = cache._rows[number]
        assert key["id"] == record["id"] and key["tokens_hash"] == tokens_hash(row["input_ids"], row["labels"])
    with pytest.raises(
        TeacherError, match=r"1 of 17 records of the train data set are not in it \(the first is row 16"
    ):
        more = Dataset.from_list([encode(record, tokenizer) for record in records[:17]])
        cache.link(more, [*names, records[16]["id"]], "train", None)
    changed = rows.map(lambda row: {"input_ids": [*row["input_ids"][:-1], 3]})
    with pytest.raises(TeacherError, match="16 of 16 records .* cached with other tokens"):
        cache.link(changed, names, "train", None)
    longest = max(len(row["input_ids"]) for row in rows)
    assert len(cache.link(more, [*names, records[16]["id"]], "train", longest - 1000)) == 17


def test_overlong_records_are_left_out_and_said(builder, tokenizer, records):
    lengths = sorted(len(encode(record, tokenizer)["input_ids"]) for record in records[:16])
    meta = _build(builder(max_length=lengths[7]))
    assert meta["left_out"] == sum(length > lengths[7] for length in lengths)
    cache = TopKCache(builder().folder)
    rows = Dataset.from_list([encode(record, tokenizer) for record in records[:16]])
    with pytest.raises(TeacherError, match=f"max_length={lengths[7]}; they are longer"):
        cache.link(rows, [record["id"] for record in records[:16]], "train", None)
    with pytest.raises(TeacherError, match="No record has at most"):
        builder(max_length=2)


@pytest.mark.parametrize("padding_free", [False, True])
def test_collator_puts_every_target_at_its_token(builder, tokenizer, records, padding_free):
    _build(builder())
    cache = TopKCache(builder().folder)
    chosen = [records[5], records[2], records[5], records[9]]
    rows = cache.link(
        Dataset.from_list([encode(record, tokenizer) for record in chosen]), [r["id"] for r in chosen], "train", None
    )
    collator = CacheCollator(
        pad_token_id=tokenizer.pad_token_id, padding_free=padding_free, cache=cache, path_consistency=True
    )
    batch = collator([dict(row) for row in rows])
    with cache.targets(batch, path_consistency=True) as targets:
        expected = [
            cache.row(cache.find(r["id"], e["input_ids"], e["labels"])) for r, e in zip(chosen, rows, strict=True)
        ]
        for name in ("ids", "log_probs", "log_tail", "tail_ids", "tail_log_prob"):
            found = getattr(targets.divergence, name)
            np.testing.assert_array_equal(found, np.concatenate([getattr(row, name) for row in expected]))
        for matrix, row in zip(targets.similarities, expected, strict=True):
            steps = len(row.similarities)
            np.testing.assert_array_equal(matrix[:steps, :steps], row.similarities)
            assert not matrix[steps:].any() and not matrix[:, steps:].any()
