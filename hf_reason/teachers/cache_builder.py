"""Writing a top-k cache: the teacher reads every record once; what is written is not computed again."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hf_reason._files import digest, write_json_atomically
from hf_reason.losses import LiveTargets, step_vectors
from hf_reason.text.collator import CoTCollator

from .cache_error import kl_error
from .cache_format import (
    FORMAT,
    META,
    SETTINGS,
    CachedRow,
    check_format,
    pack_row,
    shard_name,
    tokens_hash,
    write_shard,
)
from .cache_settings import CacheSettings
from .errors import TeacherError
from .live import LiveTeacher
from .served import ServedTeacher
from .top_k import sampling_starts, top_k_of_states

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class CacheBuilder:
    """Writes the cache of a prepared data set.

    Args:
        folder: Where the cache is written.
        splits: Encoded records of each split: `text.encode`'s columns and `id`.
        teacher: A live one, or a served one (at temperature 1 and without path consistency only).
        tokenizer: Pads the batches.
        settings: What is written.
        batch_size: Records that the teacher reads at once.
        process: This process and how many there are; the shards are divided among them.

    Raises:
        TeacherError: if `folder` holds a cache with other settings or of other data.
    """

    def __init__(
        self,
        folder: str | Path,
        splits: Mapping[str, Any],
        teacher: LiveTeacher | ServedTeacher,
        tokenizer: "PreTrainedTokenizerBase",
        settings: CacheSettings,
        *,
        batch_size: int = 8,
        process: tuple[int, int] = (0, 1),
    ) -> None:
        if isinstance(teacher, ServedTeacher) and (settings.path_consistency or settings.temperature != 1):
            raise TeacherError(
                "A served teacher gives log-probabilities at temperature 1 and no hidden states: use a live teacher "
                "for path_consistency or for another temperature."
            )
        if isinstance(teacher, ServedTeacher) and settings.tail_samples:
            raise TeacherError("A served teacher names its most likely tokens only: set tail_samples=0.")
        self.folder, self.teacher, self.settings, self.batch_size = Path(folder), teacher, settings, batch_size
        self.process = process
        self.collator = CoTCollator(pad_token_id=tokenizer.pad_token_id)  # type: ignore[arg-type]
        self.splits, self.left_out = {}, 0
        parts: list[str | bytes] = []
        for split, dataset in splits.items():
            kept = [i for i, ids in enumerate(dataset["input_ids"]) if len(ids) <= settings.max_length]
            self.left_out += len(dataset) - len(kept)
            self.splits[split] = dataset.select(kept)
            for row in self.splits[split]:
                parts += [f"{split}\n{row['id']}\n", tokens_hash(row["input_ids"], row["labels"])]
        if not any(len(dataset) for dataset in self.splits.values()):
            raise TeacherError(f"No record has at most max_length={settings.max_length} tokens.")
        self.content = {"format": FORMAT, **asdict(settings), "data": digest(*parts, size=16)}

    def shards(self) -> list[tuple[str, str, int, int]]:
        """`(file, split, first row, end)` of every shard."""
        found = []
        for split, dataset in self.splits.items():
            size = self.settings.rows_per_shard
            count = -(-len(dataset) // size)
            found += [
                (shard_name(split, n, count), split, n * size, min((n + 1) * size, len(dataset))) for n in range(count)
            ]
        return found

    def start(self) -> None:
        """Claim the folder; to be called by the main process first."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / SETTINGS
        if path.is_file():
            before = json.loads(path.read_text(encoding="utf-8"))
            check_format(before, path)
            changed = [
                f"{name}: {before.get(name)} -> {now}" for name, now in self.content.items() if before.get(name) != now
            ]
            if changed:
                raise TeacherError(
                    f"{self.folder} holds a cache with other settings ({'; '.join(changed)}). Choose another "
                    "output_dir, or remove this one."
                )
        else:
            write_json_atomically(path, self.content)

    def build(self) -> None:
        """Write this process's shards; those that are there are kept."""
        from tqdm import tqdm

        rank, world = self.process
        mine = [shard for number, shard in enumerate(self.shards()) if number % world == rank]
        missing = [shard for shard in mine if not _is_complete(self.folder / shard[0], shard[3] - shard[2])]
        with tqdm(
            total=sum(end - start for _, _, start, end in missing), desc="Caching", unit=" records", disable=rank > 0
        ) as bar:
            for name, split, start, end in missing:
                # rows of like length together, so that little is padding; their order in a shard means nothing
                part = self.splits[split].select(range(start, end))
                lengths = [len(ids) for ids in part["input_ids"]]
                order = sorted(range(len(part)), key=lengths.__getitem__, reverse=True)
                rows: list[dict[str, Any]] = []
                for first in range(0, len(order), self.batch_size):
                    examples = [part[row] for row in order[first : first + self.batch_size]]
                    for example, cached in zip(examples, self._read(examples), strict=True):
                        key = tokens_hash(example["input_ids"], example["labels"])
                        rows.append({"id": example["id"], "tokens_hash": key, **pack_row(cached)})
                    bar.update(len(examples))
                write_shard(self.folder / name, rows)

    def finish(self) -> dict[str, Any]:
        """Write the table of contents, which makes the cache one; returns it with sizes (bytes a token)."""
        shards = {name: end - start for name, _, start, end in self.shards()}
        missing = [name for name, rows in shards.items() if not _is_complete(self.folder / name, rows)]
        if missing:
            raise TeacherError(
                f"{self.folder} lacks {', '.join(missing[:3])}: a process has failed. Run the same command again."
            )
        tokens = sum(
            sum(label != -100 for label in row["labels"][1:]) for part in self.splits.values() for row in part
        )
        size = sum((self.folder / name).stat().st_size for name in shards)
        meta = {
            **self.content,
            "shards": shards,
            "tokens": tokens,
            "bytes_per_token": size / max(tokens, 1),
            "left_out": self.left_out,
        }
        write_json_atomically(self.folder / META, meta)
        return meta

    def _read(self, examples: Sequence[Mapping[str, Any]]) -> list[CachedRow]:
        if isinstance(self.teacher, ServedTeacher):
            return self._read_served(examples, self.teacher)
        rows = self._read_live(examples, self.teacher)
        return [CachedRow(*(None if x is None else x.numpy() for x in row)) for row in rows]  # type: ignore[arg-type]

    def _read_served(self, examples: Sequence[Mapping[str, Any]], teacher: ServedTeacher) -> list[CachedRow]:
        rows = []
        for example, found in zip(examples, teacher.distributions([x["input_ids"] for x in examples]), strict=True):
            target = np.asarray(example["labels"])[1:] != -100
            ids, log_probs, log_tail = (field[target] for field in found)
            none, mean_of_none = np.zeros((len(ids), 0), dtype=np.int64), np.zeros(len(ids), dtype=np.float16)
            rows.append(CachedRow(ids, log_probs, log_tail, none, mean_of_none, None))
        return rows

    def _batch(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        names = ("input_ids", "labels", "segment_ids", "step_ids")
        return self.collator([{name: example[name] for name in names} for example in examples])

    def _read_live(self, examples: Sequence[Mapping[str, Any]], teacher: LiveTeacher) -> list[tuple[Any, ...]]:
        batch = self._batch(examples)
        starts = sampling_starts(examples)
        with teacher.targets(batch, path_consistency=self.settings.path_consistency) as targets, torch.no_grad():
            assert isinstance(targets.divergence, LiveTargets)
            fields = [x.cpu() for x in top_k_of_states(*targets.divergence, self.settings, torch.cat(starts))]
            similarities = targets.similarities
        rows = zip(*(field.split([len(start) for start in starts]) for field in fields), strict=True)
        matrices: list[Any] = [None] * len(examples)
        if similarities is not None:
            matrices = self._chains(batch, similarities)
        return [(*row, matrix) for row, matrix in zip(rows, matrices, strict=True)]

    @staticmethod
    def _chains(batch: Mapping[str, Any], similarities: torch.Tensor) -> list[torch.Tensor]:
        """The matrix of each row of a padded batch: a record is one chain."""
        _, counts = step_vectors(batch["step_ids"].unsqueeze(-1).float(), batch["step_ids"])
        return [matrix[:n, :n].cpu() for matrix, n in zip(similarities, counts.tolist(), strict=True)]

    def error(self, student: LiveTeacher | None = None) -> dict[str, float]:
        """How far the KL from the cache is from the KL over the whole vocabulary, on some records.

        Args:
            student: The model that the teacher is compared with; without one, the teacher itself at twice its
                temperature stands in (a student that is right about the order and unsure).

        Returns:
            `kl` (nats a token, whole vocabulary), `kl_cache`, `relative_error`, `mass` (mean of the k tokens),
            `records`.

        Raises:
            TeacherError: with a served teacher, which does not give the whole vocabulary.
        """
        if isinstance(self.teacher, ServedTeacher):
            raise TeacherError("A served teacher does not give the whole vocabulary to compare with.")
        rows = next(part for part in self.splits.values() if len(part))
        return kl_error(rows, self.teacher, student, self.settings, self._batch, self.batch_size)


def _is_complete(path: Path, rows: int) -> bool:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return bool(pq.read_metadata(path).num_rows == rows)
    except (pa.ArrowInvalid, OSError):
        return False
