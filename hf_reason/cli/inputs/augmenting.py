"""What `augment` reads: its records with their provenance, and its translators. A served one needs no torch."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hf_reason._files import digest
from hf_reason.augment import (
    BackTranslation,
    Captions,
    CaptionWriter,
    ChatTranslator,
    Distractors,
    Seq2SeqTranslator,
    ServedCaptioner,
    StepPairs,
)
from hf_reason.augment.operation import PROVENANCE, Operation, augmented_features
from hf_reason.augment.run import TRAIN, WORK
from hf_reason.cli.augment_arguments import AugmentArguments
from hf_reason.data import DataError
from hf_reason.data.clean.splits import SPLITS
from hf_reason.traces import TraceSettings

from .datasets import load_records, reading_of
from .raw_data import prepared_places
from .trace_teacher import fingerprint, served_writer


def load_splits_to_augment(args: AugmentArguments) -> dict[str, Any]:
    """The splits that there are, with the provenance of records that were augmented before.

    Raises:
        DataError: if there are no training records.
    """
    places = prepared_places(args.dataset_name or [], domain=args.domain, **reading_of(args))
    splits: dict[str, Any] = {}
    for split in SPLITS:
        try:
            records = load_records(places, split, args.domain)
        except DataError:
            if split == TRAIN:
                raise
            continue
        known = _provenance(places, split)
        rows = [known.get(name) or [] for name in records["id"]] if known else None
        feature = augmented_features()[PROVENANCE]
        splits[split] = records if rows is None else records.add_column(PROVENANCE, rows, feature=feature)
    return splits


def _provenance(places: list[str], split: str) -> dict[str, Any]:
    from datasets import load_from_disk

    found: dict[str, Any] = {}
    for place in places:
        if not Path(place, split).is_dir():
            continue
        data = load_from_disk(str(Path(place, split)))
        if PROVENANCE in data.column_names:
            found |= dict(zip(data["id"], data[PROVENANCE], strict=True))
    return found


def load_operations(args: AugmentArguments) -> list[Operation]:
    """The operations that the arguments ask for.

    Raises:
        ValueError: if a translator cannot be loaded, or its server does not answer.
    """
    found: list[Operation] = []
    if args.distractors is not None:
        found.append(Distractors(args.distractors, templates=args.distractor_templates, kinds=args.distractor_kinds))
    if args.back_translation is not None:
        translators = [_translator(name, args) for name in args.translators]
        cache = args.translation_cache or Path(args.output_dir, WORK)
        back = translators[1] if len(translators) > 1 else None
        found.append(BackTranslation(translators[0], cache, args.back_translation, back=back, progress=_progress))
    if args.captions is not None:
        name = args.captioner_model_name_or_path
        captions = Captions(
            None if name is None else _captioner(name, args),
            args.caption_cache or Path(args.output_dir, WORK),
            args.captions,
            everywhere=args.captions_everywhere,
            broken=args.broken_images,
            progress=_progress,
        )
        found.append(captions)
    if args.step_pairs is not None:
        found.append(StepPairs(args.step_pairs, pairs=args.pairs_per_record))
    return found


def _captioner(name: str, args: AugmentArguments) -> Any:
    if not args.served(name):
        from .captioner import load_captioner

        return load_captioner(name, args)
    settings = TraceSettings(
        num_samples=1, temperature=args.temperature, max_completion_length=args.max_completion_length, seed=args.seed
    )
    writer, shown = served_writer(args, name, settings, kind=CaptionWriter, model=args.captioner_served_model)
    identity = {
        "model": shown,
        "temperature": args.temperature,
        "max_completion_length": args.max_completion_length,
        "extra_body": digest(json.dumps(args.extra_body or {}, sort_keys=True)),
    }
    return ServedCaptioner(writer, identity, seed=args.seed, prompt=args.caption_prompt)


def _progress(what: str, total: int) -> Callable[[int], None]:
    from tqdm import tqdm

    bar = tqdm(
        total=total,
        desc=what,
        unit=" images" if what == "captions" else " texts",
        mininterval=0.5 if sys.stderr.isatty() else 10.0,
    )

    def note(count: int) -> None:
        bar.update(count)
        if bar.n >= total:
            bar.close()

    return note


def _translator(name: str, args: AugmentArguments) -> Any:
    settings = TraceSettings(
        num_samples=1, temperature=args.temperature, max_completion_length=args.max_completion_length, seed=args.seed
    )
    sampling = {"temperature": args.temperature, "max_completion_length": args.max_completion_length}
    if args.served(name):
        writer, shown = served_writer(args, name, settings, model=args.translator_served_model)
        extra = digest(json.dumps(args.extra_body or {}, sort_keys=True))
        identity = {"model": shown, **sampling, "extra_body": extra}
        return ChatTranslator(writer, identity, seed=args.seed)
    return _local(name, args, settings, sampling)


def _local(name: str, args: AugmentArguments, settings: TraceSettings, sampling: dict[str, Any]) -> Any:
    from hf_reason.traces import LocalWriter

    from .inference import load_for_inference

    shown = os.path.basename(os.path.normpath(name)) if os.path.exists(name) else name
    identity = {"model": shown, "weights": fingerprint(name), "dtype": args.dtype}
    if _has_encoder(name, args.trust_remote_code):
        model, tokenizer = _load_seq2seq(name, args)
        return Seq2SeqTranslator(
            model,
            tokenizer,
            identity,
            batch_size=args.batch_size,
            num_beams=args.num_beams,
            max_length=args.max_completion_length,
        )
    loading: Any = args
    model, tokenizer = load_for_inference(name, loading)
    writer = LocalWriter(model, tokenizer, settings, batch_size=args.batch_size)
    return ChatTranslator(writer, {**identity, **sampling}, seed=args.seed)


def _has_encoder(name: str, trust_remote_code: bool) -> bool:
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code)
    except (OSError, ValueError):
        return False  # an adapter, or nothing at all: the loader says what is wrong
    return bool(getattr(config, "is_encoder_decoder", False))


def _load_seq2seq(name: str, args: AugmentArguments) -> tuple[Any, Any]:
    import torch
    from accelerate import PartialState
    from transformers import AutoModelForSeq2SeqLM

    from .inference import tokenizer_of
    from .models import cannot_load

    loading: Any = args
    tokenizer = tokenizer_of(name, loading)
    try:
        model = AutoModelForSeq2SeqLM.from_pretrained(name, dtype=args.dtype, trust_remote_code=args.trust_remote_code)
    except (OSError, ValueError) as error:
        raise ValueError(cannot_load("translator_model_name_or_path", name, error)) from error
    device = PartialState(cpu=args.use_cpu or not torch.accelerator.is_available()).device
    return model.to(device).eval(), tokenizer
