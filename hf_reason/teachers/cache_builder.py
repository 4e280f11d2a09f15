"""Writing a top-k cache: the teacher reads every record once; what is written is not computed again."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hf_reason.losses import LiveTargets, LMHead, TopKTargets, chunked_divergence, step_vectors
from hf_reason.losses.divergence import head_logits
from hf_reason.text.collator import CoTCollator

from .cache_format import FORMAT, META, SETTINGS, CachedRow, pack_row, shard_name, tokens_hash, write_json, write_shard
from .errors import TeacherError
from .live import LiveTeacher
from .served import ServedTeacher

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_CHUNK = 2**24  # logits at a time
_MEASURED = 256  # records on which the error of the KL is measured


@dataclass
class CacheSettings:
    """What a cache is made of; a run goes on only under the same.

    Attributes:
        teacher: Name of the teacher.
        tokenizer: Name of the tokenizer that encoded the records.
        k: Tokens kept of each distribution.
        tail_samples: Tokens drawn from the rest of each, which make the forward KL unbiased; a served teacher has 0.
        temperature: Temperature of the distributions.
        path: Whether the similarities between steps are kept.
        max_length: Longer records are left out.
        vocab_size: Ids that teacher and student share.
        rows_per_shard: Records in a file.
    """

    teacher: str
    tokenizer: str
    k: int = 32
    temperature: float = 1.0
    path: bool = False
    max_length: int = 4096
    vocab_size: int = 0
    rows_per_shard: int = 1000
    tail_samples: int = 8

    def __post_init__(self) -> None:
        if self.tail_samples < 0:
            raise ValueError(f"tail_samples must be at least 0, got {self.tail_samples}.")
        if not 1 <= self.k <= self.vocab_size:
            raise ValueError(f"k must be between 1 and the vocabulary's {self.vocab_size} ids, got {self.k}.")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}.")


class CacheBuilder:
    """Writes the cache of a prepared data set.

    Args:
        folder: Where the cache goes.
        splits: Encoded records of each split: `text.encode`'s columns and `id`.
        teacher: A live one, or a served one (at temperature 1 and without a path only).
        tokenizer: Pads the batches.
        settings: What is written.
        batch_size: Records that the teacher reads at once.
        process: This process and how many there are; they share the shards.

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
        if isinstance(teacher, ServedTeacher) and (settings.path or settings.temperature != 1):
            raise TeacherError(
                "A served teacher gives log-probabilities at temperature 1 and no hidden states: use a live teacher "
                "for path or for another temperature."
            )
        if isinstance(teacher, ServedTeacher) and settings.tail_samples:
            raise TeacherError("A served teacher names its most likely tokens only: set tail_samples=0.")
        self.folder, self.teacher, self.settings, self.batch_size = Path(folder), teacher, settings, batch_size
        self.process = process
        self.collator = CoTCollator(pad_token_id=tokenizer.pad_token_id)  # type: ignore[arg-type]
        self.splits, digest, self.left_out = {}, hashlib.blake2b(digest_size=16), 0
        for split, dataset in splits.items():
            kept = [i for i, ids in enumerate(dataset["input_ids"]) if len(ids) <= settings.max_length]
            self.left_out += len(dataset) - len(kept)
            self.splits[split] = dataset.select(kept)
            for row in self.splits[split]:
                digest.update(f"{split}\n{row['id']}\n".encode() + tokens_hash(row["input_ids"], row["labels"]))
        if not any(len(dataset) for dataset in self.splits.values()):
            raise TeacherError(f"No record has at most max_length={settings.max_length} tokens.")
        self.content = {"format": FORMAT, **asdict(settings), "data": digest.hexdigest()}

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
            changed = [
                f"{name}: {before.get(name)} -> {now}" for name, now in self.content.items() if before.get(name) != now
            ]
            if changed:
                raise TeacherError(
                    f"{self.folder} holds a cache made otherwise ({'; '.join(changed)}). Choose another output_dir, "
                    "or remove this one."
                )
        else:
            write_json(path, self.content)

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
            raise TeacherError(f"{self.folder} lacks {', '.join(missing[:3])}: a process has failed. Run it again.")
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
        write_json(self.folder / META, meta)
        return meta

    def _read(self, examples: Sequence[Mapping[str, Any]]) -> list[CachedRow]:
        if isinstance(self.teacher, ServedTeacher):
            return self._read_served(examples, self.teacher)
        rows = self._read_live(examples, self.teacher)
        return [CachedRow(*(None if x is None else x.numpy() for x in row)) for row in rows]  # type: ignore[arg-type]

    def _read_served(self, examples: Sequence[Mapping[str, Any]], teacher: ServedTeacher) -> list[CachedRow]:
        rows = []
        for example, found in zip(examples, teacher.top_k([x["input_ids"] for x in examples]), strict=True):
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
        starts = _sampling_starts(examples)
        with teacher.targets(batch, path=self.settings.path) as targets, torch.no_grad():
            assert isinstance(targets.divergence, LiveTargets)
            fields = [x.cpu() for x in top_k(*targets.divergence, self.settings, torch.cat(starts))]
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
        settings, sums, tokens, records, mass = self.settings, np.zeros(2), 0, 0, 0.0
        split = next(part for part in self.splits.values() if len(part))
        # spread over the split, whose first records may all be of one source
        chosen = np.unique(np.linspace(0, len(split) - 1, _MEASURED).astype(int)).tolist()
        for first in range(0, len(chosen), self.batch_size):
            examples = [split[row] for row in chosen[first : first + self.batch_size]]
            batch = self._batch(examples)
            with self.teacher.targets(batch, path=False) as found, torch.no_grad():
                live: Any = found.divergence
                starts = torch.cat(_sampling_starts(examples))
                ids, log_probs, log_tail, *tail = top_k(live.hidden_states, live.head, settings, starts)
                stored = TopKTargets(ids, log_probs.half(), log_tail.half())
                if settings.tail_samples:
                    stored = stored._replace(tail_ids=tail[0], tail_log_prob=tail[1].half())
                mass += float(log_probs.exp().sum())
                if student is None:
                    self._add(sums, live.hidden_states, _unsure(live.head), live, stored, batch)
                else:
                    with student.targets(batch, path=False) as other:
                        side: Any = other.divergence
                        self._add(sums, side.hidden_states, side.head, live, stored, batch)
                tokens, records = tokens + len(ids), records + len(examples)
        kl, cached = sums / tokens
        return {
            "kl": kl,
            "kl_cache": cached,
            "relative_error": abs(kl - cached) / max(kl, 1e-12),
            "mass": mass / tokens,
            "records": records,
        }

    def _add(self, sums: np.ndarray, states: Any, head: LMHead, live: Any, stored: Any, batch: Any) -> None:
        labels = batch["labels"][:, 1:][batch["labels"][:, 1:] != -100].to(states.device)
        for place, targets in enumerate((live, stored)):
            output = chunked_divergence(
                states,
                head,
                targets,
                labels,
                temperature=self.settings.temperature,
                vocab_size=self.settings.vocab_size,
            )
            sums[place] += float(output.divergence.sum())


def _unsure(head: LMHead) -> LMHead:
    return head._replace(logit_scale=head.logit_scale / 2)


def _is_complete(path: Path, rows: int) -> bool:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return bool(pq.read_metadata(path).num_rows == rows)
    except (pa.ArrowInvalid, OSError):
        return False


def _sampling_starts(examples: Sequence[Mapping[str, Any]]) -> list[torch.Tensor]:
    """Where the sampling of each target's tail starts, in [0, 1); the record alone decides, whatever the batches."""
    starts = []
    for example in examples:
        key = tokens_hash(example["input_ids"], example["labels"])
        count = sum(label != -100 for label in example["labels"][1:])
        starts.append(torch.from_numpy(np.random.default_rng(list(key)).random(count)))
    return starts


def top_k(
    states: torch.Tensor, head: LMHead, settings: CacheSettings, starts: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """What a cache keeps of each position.

    The samples of the tail are systematic: its mass, laid out in the order of the ids, is met at equal distances from
    a random start on, which varies less than independent draws do.

    Args:
        states: `(positions, width)`.
        head: The teacher's.
        settings: k, the number of samples, temperature, vocabulary.
        starts: `(positions,)` in [0, 1).

    Returns:
        The k most likely ids `(positions, k)` and their log-probabilities, the log of the other mass `(positions,)`,
        the sampled ids `(positions, tail_samples)` and the mean of their log-probabilities `(positions,)`.
    """
    found, size = [], max(1, _CHUNK // head.weight.shape[0])
    for chunk, start in zip(states.split(size), starts.to(states.device).split(size), strict=True):
        logits = head_logits(chunk, head)[:, : settings.vocab_size] / settings.temperature
        log_probs = logits.log_softmax(dim=1)
        best, ids = log_probs.topk(settings.k, dim=1)
        rest = log_probs.scatter(1, ids, -torch.inf)
        tail = torch.logsumexp(rest, dim=1)
        picked = _systematic(rest - tail.unsqueeze(1), start, settings.tail_samples)
        # without samples the mean of none; without a tail any token, and its weight is 0
        mean = log_probs.gather(1, picked).clamp(min=-1e4).sum(dim=1) / max(settings.tail_samples, 1)
        found.append((ids, best, tail, picked, mean))
    return tuple(torch.cat(parts) for parts in zip(*found, strict=True))


def _systematic(log_probs: torch.Tensor, start: torch.Tensor, samples: int) -> torch.Tensor:
    """Ids `(positions, samples)` by systematic sampling from log-probabilities `(positions, ids)`."""
    mass = (
        log_probs.exp()
        .nan_to_num_(0.0)
        .cumsum(dim=1, dtype=torch.float32 if log_probs.device.type == "mps" else torch.float64)
    )
    points = (start.to(mass.dtype).unsqueeze(1) + torch.arange(samples, device=mass.device)) / max(samples, 1)
    # the total may be a rounding error below 1, and an id without mass must not be met
    return torch.searchsorted(mass, points * mass[:, -1:], right=True).clamp_(max=log_probs.shape[1] - 1)
