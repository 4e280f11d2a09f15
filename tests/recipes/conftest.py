"""What the tests of the training recipes share."""

import pytest
from datasets import Dataset, DatasetDict


@pytest.fixture(scope="module")
def dataset(records, tmp_path_factory) -> str:
    """A saved data set of word problems with its three splits."""
    folder = tmp_path_factory.mktemp("data")
    parts = {"train": records[:44], "validation": records[44:52], "test": records[52:]}
    DatasetDict({name: Dataset.from_list(rows) for name, rows in parts.items()}).save_to_disk(folder)
    return str(folder)
