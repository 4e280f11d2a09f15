"""`import hf_reason` stays light, and every public name can be had."""

import subprocess
import sys
from types import ModuleType

from hf_reason.cli.parsing.commands import COMMANDS

_HEAVY = ("torch", "transformers", "trl", "datasets", "pyarrow", "matplotlib", "math_verify", "peft", "pandas")
_HEAVY += ("accelerate", "bitsandbytes", "evaluate", "huggingface_hub", "deepspeed", "sympy")


def test_import_pulls_in_nothing_heavy():
    code = "import sys, hf_reason, hf_reason.data, hf_reason.text, hf_reason.trainers, hf_reason.evaluation\n"
    code += "import hf_reason.models.step_reasoner, hf_reason.models.loar, hf_reason.generation, hf_reason.teachers\n"
    code += "import hf_reason.cli.main\n"
    code += f"print([name for name in {_HEAVY!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_commands_that_do_not_train_begin_at_once():
    """Training commands have transformers' own arguments; the help and the errors of all others need none of it."""
    training = {"sft", "distill", "lora", "loar", "grpo", "continual"}
    modules = [command.module for name, command in COMMANDS.items() if name not in training]
    heavy = tuple(name for name in _HEAVY if name != "trl")  # the package alone loads nothing
    code = f"import sys, {', '.join(modules)}\nprint([name for name in {heavy!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert len(modules) > 10 and result.stdout.strip() == "[]"


def test_every_public_name_resolves():
    import hf_reason.data
    import hf_reason.evaluation
    import hf_reason.generation
    import hf_reason.losses
    import hf_reason.models.loar
    import hf_reason.models.step_reasoner
    import hf_reason.teachers
    import hf_reason.text
    import hf_reason.trainers

    for package in (
        hf_reason,
        hf_reason.data,
        hf_reason.text,
        hf_reason.trainers,
        hf_reason.evaluation,
        hf_reason.generation,
        hf_reason.losses,
        hf_reason.teachers,
        hf_reason.models,
        hf_reason.models.loar,
        hf_reason.models.step_reasoner,
    ):
        for name in package.__all__:
            # a module of the same name would hide the function once it is imported
            assert not isinstance(getattr(package, name), ModuleType), (package.__name__, name)
