"""A served teacher for a trainer: vocabulary check and parity probe before the first step."""

import logging
from typing import TYPE_CHECKING, Any

from hf_reason.teachers.errors import TeacherError
from hf_reason.teachers.live import LiveTeacher
from hf_reason.teachers.loading import load_teacher_model, place_teacher_model
from hf_reason.teachers.served import ServedTargets, ServedTeacher
from hf_reason.text.vocabulary import shared_vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from .distill_kl import DistillKLTrainer

logger = logging.getLogger(__name__)

_PROBED = 2  # records that the probe scores


def connect(url: str, trainer: "DistillKLTrainer", tokenizer: "PreTrainedTokenizerBase | None") -> ServedTargets:
    """Check the server at `url` against the student's vocabulary, and against a local copy if there is one.

    Raises:
        TeacherError: if it cannot serve as a teacher.
    """
    args, student = trainer.args, trainer._tokenizer
    if args.temperature != 1 or args.path_weight > 0:
        raise TeacherError(
            "A server gives log-probabilities at temperature 1 and no hidden states: set temperature=1 and "
            "path_weight=0, or use a live teacher."
        )
    tokenizer = tokenizer or trainer.load_teacher_tokenizer(args.teacher_probe)
    size = shared_vocabulary(student, tokenizer)
    server = ServedTeacher(url, top_k=args.teacher_top_k, model=args.teacher_served_model, vocab_size=size)
    rows: Any = trainer.train_dataset
    found = []
    for row in rows:
        found.append(list(row["input_ids"]))
        if len(found) == _PROBED:
            break
    reference = None
    if args.teacher_probe:
        init: Any = args.teacher_model_init_kwargs
        local = load_teacher_model(args.teacher_probe, init, args.trust_remote_code)
        local = place_teacher_model(local, trainer.accelerator.device)
        reference = LiveTeacher(local, size).log_probs
    figures = server.probe(found, reference)  # type: ignore[arg-type]
    logger.info("served teacher %s: parity probe on %d records: %s", url, len(found), figures)
    return ServedTargets(server, size)
