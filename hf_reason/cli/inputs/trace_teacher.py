"""What `generate-traces` reads: its problems, and its teacher. A served one needs no torch."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_reason._files import digest
from hf_reason._private import is_place, public
from hf_reason.cli.server_arguments import ServerArguments
from hf_reason.cli.trace_arguments import GenerateTracesArguments
from hf_reason.data import DataError, read_evaluation_records
from hf_reason.text.render import template_hash
from hf_reason.traces import RateLimit, ServedWriter
from hf_reason.traces.generate import TRACES
from hf_reason.traces.settings import TraceSettings

from .datasets import load_records
from .images import refuse_images
from .raw_data import SAMPLE_NOTE, is_raw

if TYPE_CHECKING:
    from hf_reason.traces import LocalWriter

CACHE = "teacher"
_WEIGHTS = (".safetensors", ".json")


@dataclass(frozen=True)
class Teacher:
    """A teacher.

    Attributes:
        writer: Makes the samples.
        name: What records call it: no path and no URL.
        identity: What tells its samples from those of another one.
    """

    writer: Any
    name: str
    identity: dict[str, Any]


def load_problems(args: GenerateTracesArguments) -> tuple[list[dict[str, Any]], list[str]]:
    """The problems, each once, and what there is to say about them.

    Raises:
        DataError: if there is nothing to read.
    """
    names, notes = args.dataset_name or [], []
    raw = [name for name in names if is_raw(name)]
    records: list[Any] = []
    if not names or len(raw) < len(names):
        if not names:
            notes.append(SAMPLE_NOTE)
        records += load_records([name for name in names if name not in raw], args.split, args.domain).to_list()
    if raw:
        records += read_evaluation_records(
            raw,
            args.schema,
            domain=None if args.domain == "all" else args.domain,
            skip_broken=args.skip_broken,
            thought_tags=args.thought_tags or (),
            answers_needed=False,
        )
    refuse_images({"the problems": records}, "a teacher is asked in words alone (teacher_model_name_or_path)")
    distinct: dict[str, dict[str, Any]] = {}
    for record in records:
        distinct.setdefault(record["id"], dict(record))
    if len(distinct) < len(records):
        notes.append(f"{len(records) - len(distinct)} problems stand there more than once, and are asked once.")
    problems = list(distinct.values())[: args.max_records]
    without = sum(not record["answer"].strip() for record in problems)
    if without:
        notes.append(f"{without} of {len(problems)} problems have no answer; their chains cannot be verified.")
    return problems, notes


def load_teacher(args: GenerateTracesArguments, instructions: Mapping[str, str]) -> Teacher:
    """The teacher that the arguments name.

    Raises:
        ValueError: if it cannot be loaded, or its server does not answer.
    """
    return _served(args, instructions) if args.served else _local(args, instructions)


def _served(args: GenerateTracesArguments, instructions: Mapping[str, str]) -> Teacher:
    url, model = args.teacher_model_name_or_path, args.teacher_served_model
    writer, name = served_writer(args, url, args.settings(), model=model, instructions=instructions)
    extra = digest(json.dumps(args.extra_body or {}))
    return Teacher(writer, name, {"prompts": _hash(instructions), "extra_body": extra})


def served_writer(
    args: ServerArguments, url: str, settings: TraceSettings, kind: type[ServedWriter] = ServedWriter, **more: Any
) -> tuple[Any, str]:
    """What asks a server, and the name of its model: no folder of it.

    Raises:
        ValueError: if the server does not answer.
    """
    extra: Any = args.extra_body or {}
    writer = kind(
        url,
        settings,
        extra_body=extra,
        parallel=args.parallel,
        limit=RateLimit(args.requests_per_minute, args.tokens_per_minute),
        retries=args.retries,
        timeout=args.timeout,
        **more,
    )
    # some servers name a model by its folder
    return writer, str(public(writer.model) if is_place(writer.model) else writer.model)


def _local(args: GenerateTracesArguments, instructions: Mapping[str, str]) -> Teacher:
    from hf_reason.traces import LocalWriter

    from .inference import load_for_inference

    place = args.teacher_model_name_or_path
    loading: Any = args
    model, tokenizer = load_for_inference(place, loading)
    writer = LocalWriter(model, tokenizer, args.settings(), instructions=instructions, batch_size=args.batch_size)
    name = os.path.basename(os.path.normpath(place)) if os.path.exists(place) else place
    prompts = template_hash(tokenizer, instructions)
    return Teacher(writer, name, {"prompts": prompts, "model": fingerprint(place), "dtype": args.dtype})


def _hash(instructions: Mapping[str, str]) -> str:
    return digest(json.dumps(dict(instructions), sort_keys=True, ensure_ascii=False))


def fingerprint(place: str) -> str:
    """What tells a model in a folder from another one there: its configs, and sizes and times of its weights."""
    folder = Path(place)
    if not folder.is_dir():
        return digest(place)
    found = sorted(path for path in folder.iterdir() if path.suffix in _WEIGHTS and path.name != "run.json")
    parts = [
        f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}"
        if path.suffix == ".safetensors"
        else f"{path.name} {digest(path.read_bytes())}"
        for path in found
    ]
    return digest("\n".join(parts))


def cache_traces(args: GenerateTracesArguments, writer: "LocalWriter") -> str:
    """The teacher's distributions on the traces that were kept, as a cache that `distill` reads.

    Returns:
        What there is to say about it.

    Raises:
        DataError: if a trace cannot be read.
    """
    from datasets import Dataset

    from hf_reason.data.record import RECORD_FIELDS
    from hf_reason.teachers import CacheBuilder, CacheSettings, LiveTeacher
    from hf_reason.text import check_round_trip, ensure_pad_token
    from hf_reason.text.vocabulary import shared_vocabulary
    from hf_reason.trainers.cot_data import encode_records

    from .caching import cache_summary

    model, tokenizer = writer.model, writer.tokenizer
    size = shared_vocabulary(tokenizer, tokenizer, model.get_output_embeddings().weight.shape[0])
    check_round_trip(tokenizer)
    ensure_pad_token(tokenizer, size)
    lines = Path(args.output_dir, TRACES).read_text(encoding="utf-8").splitlines()
    rows = [{name: row[name] for name in RECORD_FIELDS} for row in map(json.loads, lines)]
    records = Dataset.from_list(rows)
    # in a training without templates, as `distill` has by default; the prompts of the teacher may have had them
    encoded: Any = encode_records(records, tokenizer, {}, {"desc": "Encoding traces"})
    longest = max(len(ids) for ids in encoded["input_ids"])
    place = args.teacher_model_name_or_path
    try:
        builder = CacheBuilder(
            Path(args.output_dir, CACHE),
            {"train": encoded.add_column("id", records["id"])},
            LiveTeacher(model, size),
            tokenizer,
            CacheSettings(
                teacher_model_name_or_path=place,
                tokenizer_name_or_path=args.tokenizer_name_or_path or place,
                top_k=min(args.top_k, size),
                max_length=longest,
                vocab_size=size,
            ),
            batch_size=args.batch_size,
        )
        builder.start()
    except ValueError as error:
        raise DataError(f"logprobs: {error}") from error
    builder.build()
    return "Teacher's distributions: " + cache_summary(builder.finish(), builder.folder, {}, None)
