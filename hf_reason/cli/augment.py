"""`augment`: more training data of what is there: distractors, paraphrases, described images, right and wrong steps.

The folder that is written is a data set as `prepare` writes it; the validation and test splits are those that came in.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from hf_reason.cli.parsing.parser import parse

from .augment_arguments import AugmentArguments
from .errors import on_interrupt

CLASSES = (AugmentArguments,)


def main(argv: Sequence[str] | None = None) -> None:
    """Augment; `argv` are the arguments after the command's name."""
    args: AugmentArguments
    (args,) = parse("augment", CLASSES, argv)
    from hf_reason.augment import augment
    from hf_reason.cli.inputs.augmenting import load_operations, load_splits_to_augment
    from hf_reason.data.output_folder import check_output_apart, check_output_dir

    on_interrupt(lambda: "Translations and descriptions stay; the same command continues with them.")
    check_output_dir(args.output_dir)
    check_output_apart(args.output_dir, args.dataset_name or [], args.models)
    splits = load_splits_to_augment(args)
    operations = load_operations(args)
    preparation = preparation_of(args.dataset_name or [])
    report = augment(
        splits,
        operations,
        args.output_dir,
        seed=args.seed,
        replace=args.replace,
        overwrite=args.overwrite,
        preparation=preparation,
    )
    print(summary(report))
    for said, count in report["failures"].items():
        print(
            f"Warning: {count} texts were not translated or images described; the same command asks again. {said}",
            file=sys.stderr,
        )
    print(f"Written: {args.output_dir}")


def preparation_of(names: Sequence[str]) -> dict[str, Any] | None:
    """What `prepare` reports of the data, also where they have been augmented before; `None` for several folders."""
    from .arguments import report_of

    if (path := report_of(names)) is None:
        return None
    report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return report.get("preparation", report)


def summary(report: Mapping[str, Any]) -> str:
    """The counts of a run for a terminal."""
    counts = report["counts"]
    lines = [f"{counts['in']:,} training records came in, {counts['kept']:,} of them are kept."]
    for name, found in counts["operations"].items():
        lines.append(f"  {name:<18}{found['chosen']:>9,} records chosen, {found['made']:>9,} rows made")
        parts = found.get("parts", {})
        whole = sum(parts.values()) or 1
        lines += [f"    {part:<40}{count:>9,}  {count / whole:6.1%}" for part, count in parts.items()]
        lines += [f"    none: {why:<34}{count:>9,}" for why, count in found["refused"].items()]
        if found.get("left_out"):
            lines.append(f"    {found['left_out']:,} of these records were left out (broken_images=drop).")
    if counts["equal"]:
        lines.append(f"  {counts['equal']:,} were equal to another record, and left out.")
    lines.append("Splits: " + ", ".join(f"{name} {count:,}" for name, count in report["splits"].items()))
    return "\n".join(lines)
