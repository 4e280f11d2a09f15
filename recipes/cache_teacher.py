"""Run a teacher once over prepared records and keep its top-k distributions on disk; training then needs no teacher.

    python recipes/cache_teacher.py --dataset data/mine --teacher Qwen/Qwen2.5-7B-Instruct
    torchrun --nproc_per_node 8 recipes/cache_teacher.py --dataset data/mine --teacher ... --path true
    python recipes/distill_kl.py --teacher data/mine-teacher ...

Writes Parquet next to the data set (`<dataset>-teacher`, or --output_dir). A run that was stopped goes on by itself.
At the end it says what a token takes on disk, and how far the KL from the cache is from the one over the vocabulary.
"""

from accelerate import PartialState
from transformers import AutoTokenizer, HfArgumentParser

from hf_reason import cli
from hf_reason._options import parsed_option
from hf_reason.teachers import (
    CacheBuilder,
    CacheSettings,
    LiveTeacher,
    ServedTeacher,
    load_teacher_model,
    place_teacher_model,
)
from hf_reason.text import check_round_trip, ensure_pad_token
from hf_reason.text.vocabulary import shared_vocabulary


def main() -> None:
    args: cli.CacheArguments = HfArgumentParser(cli.CacheArguments).parse_args_into_dataclasses()[0]  # type: ignore[arg-type]
    state = PartialState(cpu=args.use_cpu)
    served = args.teacher.startswith(("http://", "https://"))
    if served and not args.teacher_tokenizer:
        raise ValueError("A served teacher needs teacher_tokenizer: its ids must be known to be the student's.")
    names = [args.teacher_tokenizer or args.teacher, args.tokenizer or args.teacher_tokenizer or args.teacher]
    for name in names:
        cli.check_model_name(name)
    teacher_tokenizer, tokenizer = (
        AutoTokenizer.from_pretrained(name, trust_remote_code=args.trust_remote_code) for name in names
    )
    ensure_pad_token(tokenizer)
    check_round_trip(tokenizer)
    size = shared_vocabulary(tokenizer, teacher_tokenizer)
    init = parsed_option("teacher_model_init_kwargs", args.teacher_model_init_kwargs)

    def model(name: str) -> LiveTeacher:
        loaded = load_teacher_model(name, init, args.trust_remote_code)
        shared_vocabulary(tokenizer, teacher_tokenizer, loaded.get_output_embeddings().weight.shape[0])
        return LiveTeacher(place_teacher_model(loaded, state.device), size)

    with state.main_process_first():
        splits = cli.encoded_splits(args, tokenizer)
    settings = CacheSettings(
        args.teacher,
        names[1],
        args.k,
        args.temperature,
        args.path,
        args.max_length,
        size,
        args.rows_per_shard,
        0 if served else args.tail_samples,
    )
    server = {"k": args.k, "model": args.teacher_served_model, "vocab_size": size}
    teacher = ServedTeacher(args.teacher, **server) if served else model(args.teacher)  # type: ignore[arg-type]
    builder = CacheBuilder(
        args.output_dir or f"{args.dataset.rstrip('/')}-teacher",
        splits,
        teacher,
        tokenizer,
        settings,
        batch_size=args.batch_size,
        process=(state.process_index, state.num_processes),
    )
    with state.main_process_first():
        builder.start()
    builder.build()
    state.wait_for_everyone()
    if state.is_main_process:
        error = {} if served else builder.error(model(args.student) if args.student else None)
        print(cli.cache_summary(builder.finish(), builder.folder, error, args.student))


if __name__ == "__main__":
    with cli.one_line_errors():
        main()
