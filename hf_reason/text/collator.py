"""Batches that keep the span columns and those that a trainer adds beside the tokens, padded or padding-free."""

from dataclasses import dataclass
from typing import Any

import torch
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from .spans import ADDED_COLUMNS, SPAN_COLUMNS


@dataclass
class CoTCollator(DataCollatorForLanguageModeling):
    """TRL's language-modelling collator that also carries the columns with a value for each token.

    Input: examples with `input_ids`, optional `labels`, `segment_ids`, `step_ids`, `domain_ids`, `task_ids`,
    `choice_ids` and (packed) `seq_lengths`. Output: TRL's batch plus those of them that are there, long tensors of the
    shape of `input_ids`; padding counts as prompt (0). Examples without them (a plain TRL data set) give TRL's batch.
    """

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch = super().torch_call(examples)
        shape = batch["input_ids"].shape
        for column in (*SPAN_COLUMNS, *ADDED_COLUMNS):
            if column not in examples[0]:
                continue
            rows = [list(example[column]) for example in examples]
            if self.padding_free:
                rows = [[value for row in rows for value in row]]
            batch[column] = torch.zeros(shape, dtype=torch.long)
            for target, row in zip(batch[column], rows, strict=True):
                target[: len(row)] = torch.tensor(row)
        return batch
