"""Shared by all tests: the Hub is off, caches are empty, threads are few; a tokenizer and a tiny model."""

import os
import shutil
import tempfile

# Before anything of Hugging Face is imported, and whatever the shell says: no download, and nothing that an earlier
# run of the tests has left in a cache.
os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="hf_reason_tests_")
os.environ.pop("HF_HUB_CACHE", None)
os.environ.pop("HF_DATASETS_CACHE", None)
os.environ.pop("HF_MODULES_CACHE", None)
os.environ.pop("HF_TOKEN", None)
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("MPLBACKEND", "Agg")
# tiny tensors: more threads only wait for each other
os.environ.setdefault("OMP_NUM_THREADS", "1")

import copy

import pytest
from tiny import tiny_qwen2


def pytest_unconfigure():
    """Remove the caches, in every process of xdist."""
    shutil.rmtree(os.environ["HF_HOME"], ignore_errors=True)


@pytest.fixture(scope="session")
def records() -> list[dict]:
    """Sixty word problems of 2 to 6 steps."""
    from hf_reason.data.record import make_record
    from hf_reason.data.synthetic.word_problems import generate_word_problems

    return [
        make_record(row["context"], row["steps"], row["answer"], domain="math") for row in generate_word_problems(60)
    ]


@pytest.fixture(scope="session")
def _session_tokenizer(records):
    from hf_reason.text import render, train_tokenizer

    return train_tokenizer([text for record in records for text in render(record).values()], vocab_size=420)


@pytest.fixture
def tokenizer(_session_tokenizer):
    """A byte-level tokenizer with a chat template, trained on `records`; a fresh copy for each test."""
    return copy.deepcopy(_session_tokenizer)


@pytest.fixture
def tiny_model(tokenizer):
    """A Qwen2 of two layers and width 16 with random weights."""
    return tiny_qwen2(tokenizer)


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra test-browser")
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = os.environ.get("HF_REASON_BROWSER") or next(filter(None, map(shutil.which, names)), None)
    with playwright.sync_playwright() as driver:
        if found is None and not os.path.exists(driver.chromium.executable_path):
            pytest.skip("there is no Chromium: install it, or set HF_REASON_BROWSER to its program")
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
        running = driver.chromium.launch(executable_path=found, args=[*arguments, "--disable-component-update"])
        yield running
        running.close()
