"""The student of a distillation: loaded by name, taken out of its teacher, or built from scratch."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_reason.cli.arguments import ScratchArguments, StudentArguments
from hf_reason.teachers import TeacherSource
from hf_reason.teachers.cache_format import read_meta

from .models import load_model_and_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from trl import ModelConfig

    from hf_reason.trainers import DistillKLConfig


def _model_of_teacher(args: "DistillKLConfig") -> tuple[str, str]:
    """Names of the teacher's model and tokenizer; those that a cache was made with."""
    source = TeacherSource.parse(args.teacher_model_name_or_path)
    if source.kind == "cache":
        meta = read_meta(Path(source.value))
        if missing := {"teacher_model_name_or_path", "tokenizer_name_or_path"} - meta.keys():
            raise ValueError(f"{source.value}/cache.json is damaged: it lacks {', '.join(sorted(missing))}.")
        return meta["teacher_model_name_or_path"], meta["tokenizer_name_or_path"]
    if source.kind == "several":  # which have one vocabulary
        models = [one.value for one in source.value.values() if one.kind == "model"]
        return "", args.teacher_tokenizer_name_or_path or next(iter(models), "")
    return source.value, args.teacher_tokenizer_name_or_path or (source.value if source.kind == "model" else "")


def load_student(
    student: StudentArguments,
    scratch: ScratchArguments,
    model_args: "ModelConfig",
    args: "DistillKLConfig",
    records: Iterable[Mapping[str, Any]],
) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    """The student and its tokenizer; one that is not loaded by name has its teacher's tokenizer.

    Raises:
        ValueError: if there is no student, more than one, or no teacher to take it from.
    """
    teacher, tokenizer_name = _model_of_teacher(args)
    part = student.student_layers is not None or student.student_config is not None
    if not part:
        if model_args.model_name_or_path is None and not scratch.model_config:
            raise ValueError(
                "There is no student. Give model_name_or_path; or student_layers (so many of the teacher's layers) or "
                "student_config (a narrower teacher); or model_config for a model from scratch."
            )
        if model_args.model_name_or_path is None and scratch.tokenizer_name_or_path is None:
            scratch = replace(scratch, tokenizer_name_or_path=tokenizer_name or None)
        return load_model_and_tokenizer(model_args, scratch, args, records)
    if model_args.model_name_or_path or scratch.model_config:
        raise ValueError(
            "The student is given twice: student_layers and student_config take it out of the teacher. Leave "
            "model_name_or_path and model_config out, or these."
        )
    if not teacher or teacher == "self" or teacher.startswith(("http://", "https://")):
        raise ValueError(
            "A student cannot be taken out of teacher_model_name_or_path="
            f"{args.teacher_model_name_or_path!r}: that must be a model's folder or Hub name (or the cache of one)."
        )
    from transformers import AutoTokenizer

    from hf_reason.models.student import student_from_teacher
    from hf_reason.teachers import load_teacher_model

    # trained in float32 unless a dtype is asked for, as transformers loads a model to be trained
    whole = load_teacher_model(teacher, {"dtype": model_args.dtype or "float32"}, args.trust_remote_code)
    fields: Any = student.student_config or {}
    model = student_from_teacher(whole, num_hidden_layers=student.student_layers, **fields)
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_name, trust_remote_code=args.trust_remote_code)
    return model, tokenizer
