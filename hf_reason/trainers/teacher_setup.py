"""From what a user gave as teacher to a `Teacher` that fits the student."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from hf_reason.models.base_weights import has_adapted_head, trained_base_weights
from hf_reason.models.lm_head import causal_model
from hf_reason.teachers.base import Teacher
from hf_reason.teachers.by_domain import DomainTeachers, no_teacher, without_teacher
from hf_reason.teachers.cache import CacheCollator, TopKCache
from hf_reason.teachers.errors import TeacherError
from hf_reason.teachers.live import LiveTeacher
from hf_reason.teachers.loading import load_teacher_model, place_teacher_model, prepare_teacher_model
from hf_reason.teachers.served import ServedTargets, ServedTeacher
from hf_reason.teachers.source import TeacherSource
from hf_reason.text.collator import CoTCollator
from hf_reason.text.vocabulary import shared_vocabulary

from .distill_kl_config import DistillKLConfig
from .untouched_base import moves_base

if TYPE_CHECKING:
    from accelerate import Accelerator
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

_PROBED = 2  # records that the probe of a server scores


def open_cache(source: TeacherSource, args: DistillKLConfig) -> TopKCache | None:
    """The cache that a source names; `None` for a teacher that runs.

    Raises:
        ValueError: if the options need a teacher that runs.
        TeacherError: if the cache cannot be used.
    """
    if source.kind != "cache":
        return None
    cache = TopKCache(source.value, temperature=args.temperature, path_consistency=args.path_weight > 0)
    if args.lmbda > 0:
        raise ValueError("lmbda above 0 needs a teacher that reads new text; a cache holds the records only.")
    if args.overlong == "split":
        raise ValueError(
            "overlong='split' makes new examples of the records, which a cache holds whole. Use overlong='drop', or a "
            "teacher that runs."
        )
    if args.path_weight > 0 and args.overlong == "truncate":
        raise ValueError("overlong='truncate' cuts steps that the cache holds whole. Use overlong='drop'.")
    return cache


def link_cache(
    cache: TopKCache, rows: Any, records: Any, name: str, args: DistillKLConfig, map_kwargs: Mapping[str, Any]
) -> Any:
    """The encoded rows of a data set with the columns that say where the cache has their targets.

    Raises:
        ValueError: if the data set is streamed.
        TeacherError: if the cache was made from other data.
    """
    if hasattr(rows, "_ex_iterable"):
        raise ValueError(
            f"The {name} data set is streamed; a teacher cache needs all of its records: load it without "
            "streaming=True."
        )
    names = records["id"] if "id" in records.column_names else [""] * len(records)
    longest = args.max_length if args.overlong == "drop" else None
    return cache.link(rows, list(names), name, longest, **map_kwargs)


def cache_collator(cache: TopKCache, plain: CoTCollator, student: Any, path_consistency: bool) -> CacheCollator:
    """The collator that adds a cache's targets to what `plain` makes.

    Raises:
        TeacherError: if the cache has ids that the student's head lacks.
    """
    rows = causal_model(student).get_output_embeddings().weight.shape[0]
    if 0 < rows < cache.vocab_size:  # 0: a ZeRO-3 partition
        raise TeacherError(
            f"The teacher cache {cache.folder} has ids up to {cache.vocab_size - 1}, the student's head has {rows} "
            "rows."
        )
    return CacheCollator(
        pad_token_id=plain.pad_token_id,
        padding_free=plain.padding_free,
        return_position_ids=plain.return_position_ids,
        pad_to_multiple_of=plain.pad_to_multiple_of,
        cache=cache,
        path_consistency=path_consistency,
    )


@dataclass(frozen=True)
class TeacherSettings:
    """How a teacher that runs is loaded and asked.

    Attributes:
        init_kwargs: For `from_pretrained`.
        tokenizer_name_or_path: Its tokenizer; default: the one in its folder.
        served_model: Its name on a server.
        probe: A local copy of a served model.
        top_k: Tokens asked of a server.
        temperature: Of the divergence.
        needs_states: Whether its hidden states are wanted, too.
        trust_remote_code: Whether code from the Hub may run.
    """

    init_kwargs: Mapping[str, Any] | None
    tokenizer_name_or_path: str | None
    served_model: str | None
    probe: str | None
    top_k: int
    temperature: float
    needs_states: bool
    trust_remote_code: bool

    @classmethod
    def of(cls, args: Any) -> "TeacherSettings":
        """Those of a `DistillKLConfig` or a `StepGRPOConfig`, whose `top_k` is that of the sampling."""
        return cls(
            args.teacher_model_init_kwargs,
            args.teacher_tokenizer_name_or_path,
            args.teacher_served_model,
            args.teacher_probe,
            getattr(args, "teacher_top_k", args.top_k),
            args.temperature,
            getattr(args, "path_weight", 0.0) > 0,
            args.trust_remote_code,
        )


@dataclass
class Student:
    """What a teacher is fitted to.

    Attributes:
        model: The student, without wrappers.
        tokenizer: Its tokenizer.
        accelerator: The run's.
        rows: The prepared training set, for a server's probe.
    """

    model: Any
    tokenizer: "PreTrainedTokenizerBase"
    accelerator: "Accelerator"
    rows: Iterable[Mapping[str, Any]]


def make_teacher(
    source: TeacherSource, student: Student, settings: TeacherSettings, tokenizer: "PreTrainedTokenizerBase | None"
) -> Teacher:
    """A teacher that runs: a model, a server, the student without its adapters, or one of them for each domain.

    Args:
        source: What it is.
        student: What it is fitted to.
        settings: How it is loaded and asked.
        tokenizer: The teacher's; default: the one that `settings` or the teacher's folder names.

    Raises:
        ValueError: if the vocabularies differ, or the student has no adapters to switch off.
        TeacherError: if the teacher cannot be used.
    """
    if source.kind == "several":
        return _several(source.value, student, settings, tokenizer)
    if source.kind == "object" and hasattr(source.value, "targets"):
        return source.value  # type: ignore[no-any-return]
    if source.kind == "self":
        return _without_adapters(student)
    if source.kind == "server":
        return _connect(source.value, student, settings, tokenizer)
    model = source.value
    if source.kind == "model":
        model = load_teacher_model(source.value, settings.init_kwargs, settings.trust_remote_code)
    tokenizer = tokenizer or _load_tokenizer(settings, model.config.name_or_path)
    heads = [causal_model(m).get_output_embeddings() for m in (student.model, model)]
    rows = [head.weight.shape[0] for head in heads if head is not None]
    size = shared_vocabulary(student.tokenizer, tokenizer, *(count for count in rows if count))
    return LiveTeacher(prepare_teacher_model(model, student.accelerator), size)


def _several(
    sources: Mapping[str, TeacherSource],
    student: Student,
    settings: TeacherSettings,
    tokenizer: "PreTrainedTokenizerBase | None",
) -> DomainTeachers:
    if student.accelerator.distributed_type in ("DEEPSPEED", "FSDP"):
        # a process whose batch lacks a domain would not call that teacher, and the others would wait for it
        raise ValueError("Several teachers work with DDP and single processes, not with DeepSpeed or FSDP.")
    made: dict[Any, Teacher] = {}
    found = {}
    for name, source in sources.items():
        key = id(source.value) if source.kind == "object" else (source.kind, source.value)
        if key not in made:
            made[key] = make_teacher(source, student, settings, tokenizer)
        found[name] = made[key]
    return DomainTeachers(found)


def check_domains(source: TeacherSource, records: Any, name: str) -> None:
    """Refuse records of a domain without a teacher, before any is loaded; streamed ones are seen when they come.

    Raises:
        TeacherError: naming the domains.
    """
    if source.kind != "several" or hasattr(records, "_ex_iterable"):
        return
    domains = set(records["domain"]) if "domain" in records.column_names else {None}
    missing = without_teacher(domains, source.value)
    if missing:
        raise TeacherError(no_teacher(missing, f"{name} data set"))


def _without_adapters(student: Student) -> LiveTeacher:
    model = student.model
    if not hasattr(model, "disable_adapter"):
        raise ValueError("The teacher 'self' is the student without its LoRA: pass a peft_config (use_peft).")
    if student.accelerator.distributed_type in ("DEEPSPEED", "FSDP"):
        raise ValueError("The teacher 'self' works with DDP and single processes, not with DeepSpeed or FSDP.")
    moved = [setting for config in model.peft_config.values() if (setting := moves_base(config))]
    if not moved and (trained := trained_base_weights(model)):
        moved = [f"the training of {trained[0]}"]
    if not moved and has_adapted_head(model):
        moved = ["the adapter of the LM head"]
    if moved:
        raise ValueError(f"The teacher 'self' needs the base model unchanged: leave {', '.join(moved)} out.")
    return LiveTeacher(model, len(student.tokenizer), adapter_off=True)


def _load_tokenizer(settings: TeacherSettings, default: str | None) -> "PreTrainedTokenizerBase":
    """The tokenizer that the configuration or `default` names.

    Raises:
        TeacherError: if there is none, so that the vocabularies cannot be compared.
    """
    from transformers import AutoTokenizer

    name = settings.tokenizer_name_or_path or default
    fix = "Give teacher_tokenizer_name_or_path: ids can only be compared with the teacher's tokenizer."
    if not name:
        raise TeacherError(f"The teacher has no name, so its tokenizer is not known. {fix}")
    try:
        return AutoTokenizer.from_pretrained(  # type: ignore[no-any-return]
            name, trust_remote_code=settings.trust_remote_code
        )
    except (OSError, ValueError) as error:
        what = " ".join(str(error).split())[:200]
        raise TeacherError(f"The teacher's tokenizer {name!r} cannot be loaded: {what}. {fix}") from error


def _connect(
    url: str, student: Student, settings: TeacherSettings, tokenizer: "PreTrainedTokenizerBase | None"
) -> ServedTargets:
    """Check a server against the student's vocabulary, and against a local copy of its model if there is one.

    Raises:
        TeacherError: if it cannot serve as a teacher.
    """
    if settings.temperature != 1 or settings.needs_states:
        raise TeacherError(
            "A server gives log-probabilities at temperature 1 and no hidden states: set temperature=1 and "
            "path_weight=0, or use a live teacher."
        )
    tokenizer = tokenizer or _load_tokenizer(settings, settings.probe)
    size = shared_vocabulary(student.tokenizer, tokenizer)
    server = ServedTeacher(url, top_k=settings.top_k, model=settings.served_model, vocab_size=size)
    probed = [list(row["input_ids"]) for row in islice(student.rows, _PROBED)]
    reference: Any = None
    if settings.probe:
        local = load_teacher_model(settings.probe, settings.init_kwargs, settings.trust_remote_code)
        reference = LiveTeacher(place_teacher_model(local, student.accelerator.device), size).log_probs
    figures = server.probe(probed, reference)
    logger.info("served teacher %s: parity probe on %d records: %s", url, len(probed), figures)
    return ServedTargets(server, size)
