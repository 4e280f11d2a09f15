"""`compress`: the whole path from a teacher to a small model: a student of it, pruned, recovered, quantised.

    hf-reason compress --config recipes/configs/compress/demo.yaml
    hf-reason compress --teacher_model_name_or_path out/mine --dataset_name data/mine --output_dir out/small \
        --prune.ratio 0.2 --prune.recover_steps 200 --quantize.group_size 64

Each section of the file (`distill`, `prune`, `quantize`) has the options of the command of this name. Every stage is
that command in a process of its own; what is finished is not done again. All models are measured on the same problems.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hf_reason._options import option, parsed_option
from hf_reason.cli.parsing.config_file import read_config
from hf_reason.cli.parsing.parser import config_of, parse

from .compression_arguments import CompressionArguments


@dataclass
class CompressArguments(CompressionArguments):
    """Where the path begins, and its stages."""

    teacher_model_name_or_path: str = option("", "Folder or Hub name of the model that becomes smaller. (required)")
    distill: dict[str, Any] | str | None = option(
        None, "Options of `distill` for a student; also --distill.NAME VALUE. Default: no student."
    )
    prune: dict[str, Any] | str | None = option(
        None, "Options of `prune`, recovery included; also --prune.NAME VALUE. Default: no pruning."
    )
    quantize: dict[str, Any] | str | None = option(
        None, "Options of `quantize`; also --quantize.NAME VALUE. Default: no quantisation."
    )
    # the first model that is measured
    model_name_or_path: str = field(init=False, default="")

    def __post_init__(self) -> None:
        if not self.teacher_model_name_or_path:
            raise ValueError("there is no teacher_model_name_or_path. Give --teacher_model_name_or_path.")
        self.model_name_or_path = self.teacher_model_name_or_path
        super().__post_init__()
        for name in ("distill", "prune", "quantize"):
            setattr(self, name, parsed_option(name, getattr(self, name)))


CLASSES = (CompressArguments,)


def main(argv: Sequence[str] | None = None) -> int:
    """Make the path; `argv` are the arguments after the command's name."""
    from .stages.path import CompressionPath
    from .stages.sections import STAGES, split_words, stages_of

    words, inside = split_words(sys.argv[1:] if argv is None else argv)
    args: CompressArguments
    (args,) = parse("compress", CLASSES, words)
    file, _ = config_of(words)
    written = read_config(file) if file else {}
    sections = {name: getattr(args, name) for name in STAGES}
    for name in STAGES:
        if sections[name] is None and name in written:  # `prune:` alone: with all its defaults
            sections[name] = {}
    return CompressionPath(args, stages_of(args, sections, inside, file)).run()
