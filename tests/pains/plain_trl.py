"""The plain library for the tests of the pains: TRL's own trainer, and chat templates as models publish them."""

import copy
from functools import cache
from pathlib import Path
from typing import Any

from tiny import tiny_settings


def templates() -> dict[str, str]:
    """Name -> text of every chat template that TRL ships: those of published models, and its variants for training."""
    import trl

    folder = Path(trl.__file__).parent / "chat_templates"
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.jinja"))}


@cache
def template(name: str) -> str:
    """One of them."""
    return templates()[name]


def messages(record: dict[str, Any]) -> list[dict[str, str]]:
    """A record as the data sets of the field have it: the thought in the assistant's text."""
    thought = "\n".join(record["steps"])
    return [
        {"role": "user", "content": record["context"]},
        {"role": "assistant", "content": f"<think>\n{thought}\n</think>\n\n{record['answer']}"},
    ]


def sft_trainer(folder: Path, model: Any, tokenizer: Any, rows: list[dict[str, Any]], **settings: Any) -> Any:
    """`trl.SFTTrainer` on copies of the model and the tokenizer."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    return SFTTrainer(
        model=copy.deepcopy(model),
        args=SFTConfig(**tiny_settings(folder / "plain", **settings)),
        train_dataset=Dataset.from_list(rows),
        processing_class=copy.deepcopy(tokenizer),
    )


def targets(row: dict[str, list[int]]) -> list[int]:
    """The tokens of a row that the loss is on."""
    return [token for token, label in zip(row["input_ids"], row["labels"], strict=True) if label != -100]
