"""The student of a distillation: loaded by name, taken out of its teacher, or built from scratch."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_reason._options import parsed_option
from hf_reason.teachers.cache_format import META, read_meta

from .models import ScratchArguments, load_model_and_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from trl import ModelConfig

    from hf_reason.trainers import DistillKLConfig


@dataclass
class StudentArguments:
    """A student that is a part of its teacher."""

    student_layers: int | None = field(
        default=None, metadata={"help": "Start from this many of the teacher's layers, taken evenly."}
    )
    student_config: dict[str, Any] | str | None = field(
        default=None,
        metadata={"help": 'Start from a narrower teacher, JSON: {"hidden_size": 256, "intermediate_size": 768, ...}.'},
    )

    def __post_init__(self) -> None:
        self.student_config = parsed_option("student_config", self.student_config)


def load_student(
    student: StudentArguments,
    model_args: "ModelConfig",
    scratch: ScratchArguments,
    args: "DistillKLConfig",
    records: Iterable[Mapping[str, Any]],
) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    """The student and its tokenizer; one that is not loaded by name has its teacher's tokenizer.

    Raises:
        ValueError: if there is no student, more than one, or no teacher to take it from.
    """
    source = args.teacher or ""
    cache = Path(source) if source and Path(source, META).is_file() else None
    teacher, tokenizer_name = source, args.teacher_tokenizer or source
    if cache is not None:
        meta = read_meta(cache)
        teacher, tokenizer_name = meta["teacher"], meta["tokenizer"]
    part = student.student_layers is not None or student.student_config is not None
    if not part:
        if model_args.model_name_or_path is None and scratch.tokenizer_name_or_path is None:
            scratch = replace(scratch, tokenizer_name_or_path=tokenizer_name or None)
        return load_model_and_tokenizer(model_args, scratch, args, records)
    if model_args.model_name_or_path or scratch.model_config:
        raise ValueError(
            "The student is given twice: student_layers and student_config take it out of the teacher. Leave "
            "model_name_or_path and model_config out, or these."
        )
    if not teacher or teacher == "self" or teacher.startswith(("http://", "https://")):
        raise ValueError(f"A student cannot be taken out of teacher={teacher!r}: it has to be a model at hand.")
    from transformers import AutoTokenizer

    from hf_reason.models.student import student_from_teacher
    from hf_reason.teachers import load_teacher_model

    # trained in float32 unless a dtype is asked for, as transformers loads a model to be trained
    whole = load_teacher_model(teacher, {"dtype": model_args.dtype or "float32"}, args.trust_remote_code)
    fields: Any = student.student_config or {}
    model = student_from_teacher(whole, num_hidden_layers=student.student_layers, **fields)
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_name, trust_remote_code=args.trust_remote_code)
    return model, tokenizer
