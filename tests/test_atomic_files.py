"""Files that are there whole or not at all, and the one hash."""

import hashlib

import pytest

from hf_reason._files import digest, file_digest, write_atomically, write_json_atomically


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    write_json_atomically(path, {"字": 1})
    assert path.read_text(encoding="utf-8") == '{\n  "字": 1\n}\n'

    def failing(place):
        assert place.suffix == ".json" and place != path
        place.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, failing)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]
    assert path.read_text(encoding="utf-8").startswith("{")


def test_digests_are_blake2b_of_the_parts_in_order(tmp_path):
    assert digest("甲", b"x") == hashlib.blake2b("甲x".encode(), digest_size=8).hexdigest()
    for name, text in (("a", "一" * 700_000), ("b", "2")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert file_digest(tmp_path / "a", tmp_path / "b", size=16, prefix="p") == digest(
        "p" + "一" * 700_000, "2", size=16
    )
