"""Words and streams in other encodings than UTF-8, bars in files, and noise of the libraries."""

import os
import subprocess
import sys

import pytest

from hf_reason.cli import terminal
from hf_reason.cli.main import main


def python(script: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TQDM_")}
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, timeout=60, env={**clean, **environment}, check=True
    )


def test_words_are_decoded_or_refused(tmp_path, capsys) -> None:
    assert terminal.readable(["--question", "小明"]) == ["--question", "小明"]
    with pytest.raises(ValueError, match=r"'\?+' is not UTF-8. Set the terminal to UTF-8"):
        terminal.readable(["小明".encode("gbk").decode("utf-8", "surrogateescape")])
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe")
    open(path, "w").close()
    assert terminal.readable([path]) == [path], "a path keeps its bytes"
    assert main(["ask", "--question", "\udcff\udcfe"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("Error: '??' is not UTF-8.") and err.count("\n") == 1


def test_words_of_an_ascii_locale_are_utf8(monkeypatch) -> None:
    monkeypatch.setattr(terminal.os, "fsencode", lambda word: word.encode("ascii", "surrogateescape"))
    assert terminal.readable(["小".encode().decode("ascii", "surrogateescape")]) == ["小"]


def test_what_the_terminal_cannot_show_is_replaced() -> None:
    done = python(
        "from hf_reason.cli.terminal import set_up; set_up(); print('a\u5c0f')", PYTHONIOENCODING="ascii:strict"
    )
    assert done.stdout.strip() == b"a?"


def test_bars_in_a_file_are_rare() -> None:
    script = (
        "import time; from hf_reason.cli.terminal import set_up; set_up()\n"
        "from transformers.utils import logging; from tqdm.auto import tqdm\n"
        "for bar in (tqdm, logging.tqdm):\n"
        "    for _ in bar(range(5)): time.sleep(0.12)\n"
        "print(tqdm(range(2)).mininterval)"
    )
    done = python(script)
    assert done.stdout.strip() == b"30.0" and done.stderr == b""
    done = python(script, TQDM_MININTERVAL="0.1", TQDM_DELAY="0")
    assert done.stdout.strip() == b"0.1" and done.stderr.count(b"5/5") >= 2, "the user's own values count"


def test_the_libraries_own_use_of_an_old_name_is_no_news() -> None:
    script = (
        "import warnings; from hf_reason.cli.terminal import set_up; set_up()\n"
        "warnings.warn('`is_gradient_checkpointing` is deprecated', FutureWarning)\n"
        "warnings.warn('another', FutureWarning)"
    )
    err = python(script).stderr
    assert b"another" in err and b"is_gradient" not in err
