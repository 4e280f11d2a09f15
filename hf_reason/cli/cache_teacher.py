"""`cache-teacher`: run a teacher once over records and keep its top-k distributions; training then needs no teacher.

Writes Parquet beside the data set (`<dataset_name>-teacher`, or `output_dir`). At the end it prints what a token needs
on disk, and how far the KL from the cache is from the one over the vocabulary.
"""

from collections.abc import Sequence
from typing import Any

from hf_reason.cli.parsing.parser import parse

from .arguments import CacheArguments
from .errors import on_interrupt

CLASSES = (CacheArguments,)


def main(argv: Sequence[str] | None = None) -> None:
    """Build the cache; `argv` are the arguments after the command's name."""
    args: CacheArguments
    (args,) = parse("cache-teacher", CLASSES, argv)
    from accelerate import PartialState

    from hf_reason.cli.inputs.caching import cache_summary, encoded_splits
    from hf_reason.data.output_folder import check_output_dir, hold
    from hf_reason.teachers import CacheBuilder, CacheSettings
    from hf_reason.text import check_round_trip, ensure_pad_token
    from hf_reason.text.vocabulary import shared_vocabulary
    from hf_reason.trainers.launch import check_world_size

    on_interrupt(lambda: "The same command resumes after the last finished file.")
    state = PartialState(cpu=args.use_cpu)
    check_world_size(args.expected_world_size)
    output = args.output_dir or f"{(args.dataset_name or [''])[0].rstrip('/')}-teacher"
    check_output_dir(output)
    served = args.teacher_model_name_or_path.startswith(("http://", "https://"))
    teacher_tokenizer, tokenizer, tokenizer_name = _tokenizers(args, served)
    check_round_trip(tokenizer)
    size = shared_vocabulary(tokenizer, teacher_tokenizer)
    ensure_pad_token(tokenizer, size)  # the teacher has no row for a new one
    with state.main_process_first():
        splits = encoded_splits(args, tokenizer, speaks=state.is_main_process)

    def live(name: str) -> Any:
        return _live(name, args, (tokenizer, teacher_tokenizer), size, state.device)

    builder = CacheBuilder(
        output,
        splits,
        _served(args, size) if served else live(args.teacher_model_name_or_path),
        tokenizer,
        CacheSettings(
            teacher_model_name_or_path=args.teacher_model_name_or_path,
            tokenizer_name_or_path=tokenizer_name,
            top_k=args.top_k,
            temperature=args.temperature,
            path_consistency=args.path_consistency,
            max_length=args.max_length,
            vocab_size=size,
            rows_per_shard=args.rows_per_shard,
            tail_samples=0 if served else args.tail_samples,
        ),
        batch_size=args.batch_size,
        process=(state.process_index, state.num_processes),
    )
    with state.main_process_first():
        if state.is_main_process:
            hold(builder.folder)
        builder.start()
    builder.build()
    state.wait_for_everyone()
    if state.is_main_process:
        student = args.student_model_name_or_path
        error = {} if served else builder.error(live(student) if student else None)
        print(cache_summary(builder.finish(), builder.folder, error, student))


def _tokenizers(args: CacheArguments, served: bool) -> tuple[Any, Any, str]:
    """The teacher's tokenizer, the student's, and the student's name.

    Raises:
        ValueError: if one cannot be loaded, or a served teacher's is not given.
    """
    from transformers import AutoTokenizer

    from hf_reason.cli.inputs.models import cannot_load, check_model_name, check_tokenizer_files

    given = args.teacher_tokenizer_name_or_path
    if served and not given:
        raise ValueError(
            "a served teacher needs --teacher_tokenizer_name_or_path: its ids must be known to be the student's."
        )
    of_teacher = given or args.teacher_model_name_or_path
    of_student = args.tokenizer_name_or_path or of_teacher
    found = []
    for name in (of_teacher, of_student):
        check_model_name(name)
        check_tokenizer_files(name)
        try:
            found.append(AutoTokenizer.from_pretrained(name, trust_remote_code=args.trust_remote_code))
        except (OSError, ValueError) as error:
            raise ValueError(cannot_load("the tokenizer", name, error)) from error
    return found[0], found[1], of_student


def _live(name: str, args: CacheArguments, tokenizers: tuple[Any, Any], size: int, device: Any) -> Any:
    from hf_reason.teachers import LiveTeacher, load_teacher_model, place_teacher_model
    from hf_reason.text.vocabulary import shared_vocabulary

    options: Any = args.teacher_model_init_kwargs
    loaded = load_teacher_model(name, options, args.trust_remote_code)
    shared_vocabulary(*tokenizers, loaded.get_output_embeddings().weight.shape[0])
    return LiveTeacher(place_teacher_model(loaded, device), size)


def _served(args: CacheArguments, size: int) -> Any:
    from hf_reason.teachers import ServedTeacher

    return ServedTeacher(
        args.teacher_model_name_or_path, top_k=args.top_k, model=args.teacher_served_model, vocab_size=size
    )
