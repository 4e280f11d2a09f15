"""How many records of a data set have a chain: are both modes of a hybrid model trained, and told apart?"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hf_reason.text.modes import check_modes, has_switch

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset
    from transformers import PreTrainedTokenizerBase

_BATCH = 10_000


def count_chains(records: "Dataset") -> tuple[int, int]:
    """Records with a chain, and without one; the texts themselves are not read."""
    import pyarrow as pa
    import pyarrow.compute as pc

    steps: Any = records.select_columns("steps").with_format("arrow")
    without = 0
    for table in steps.iter(_BATCH):
        if not pa.types.is_list(table.schema.types[0]):  # each record says what is wrong with it
            return len(records), 0
        lengths = pc.fill_null(pc.list_value_length(table["steps"]), 0)
        without += int(pc.sum(pc.equal(lengths, 0)).as_py() or 0)
    return len(records) - without, without


class _StreamCheck:
    """Judges a stream record by record, when the second mode turns up."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase"):
        self.tokenizer = tokenizer
        self._with_chain = self._without = 0

    def __call__(self, record: Mapping[str, Any]) -> bool:
        if record.get("steps"):
            self._with_chain += 1
        else:
            self._without += 1
        if min(self._with_chain, self._without) == 1:
            check_modes(self._with_chain, self._without, self.tokenizer, "streamed training")
        return True


def with_modes_apart(
    records: "Dataset | IterableDataset", tokenizer: "PreTrainedTokenizerBase"
) -> "Dataset | IterableDataset":
    """Training records, checked: both modes under one prompt are refused.

    Raises:
        ValueError: if there are records with a chain and without one, and the chat template has no switch; for a
            stream, when it is read.
    """
    if has_switch(tokenizer):
        return records
    if hasattr(records, "_ex_iterable"):
        return records.filter(_StreamCheck(tokenizer))  # which keeps the columns' names
    check_modes(*count_chains(records), tokenizer, "training")  # type: ignore[arg-type]
    return records
