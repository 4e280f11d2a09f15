"""`circle`: serve a model, learn from the feedback of its users, and promote the new version if it is better.

    hf-reason circle --config recipes/configs/circle/demo.yaml

Serves the version in use, waits for feedback, runs `continual` on it, and, unless its guard refuses the new version,
serves both and divides the users between them until a difference is shown. Simulated users take the place of real ones
where `crowd_dataset_name` is given. The same command continues a circle that was stopped at any moment.
"""

import sys
from collections.abc import Sequence

from hf_reason.cli.parsing.config_file import read_config
from hf_reason.cli.parsing.parser import config_of, parse

from .circling.arguments import SECTIONS, CircleArguments

CLASSES = (CircleArguments,)


def main(argv: Sequence[str] | None = None) -> int:
    """Go round once; `argv` are the arguments after the command's name."""
    from .circling.circle import Circle
    from .circling.plan import plan_of
    from .stages.sections import split_words

    words, inside = split_words(sys.argv[1:] if argv is None else argv, SECTIONS)
    args: CircleArguments
    (args,) = parse("circle", CLASSES, words)
    file, _ = config_of(words)
    written = read_config(file) if file else {}
    for name in SECTIONS:
        if getattr(args, name) is None or name in written and written[name] is None:
            setattr(args, name, {})
    return Circle(plan_of(args, inside, file)).run()
