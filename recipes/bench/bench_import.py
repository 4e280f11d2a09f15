"""What importing hf_reason costs, next to importing transformers' Auto classes.

    python recipes/bench/bench_import.py
    python recipes/bench/bench_import.py --repeats 15

Each import runs in a fresh process; the sides take turns, and user + system CPU seconds of the process are counted, so
that other work on the machine disturbs little. The ratio is that of the medians: transformers' Auto classes with
hf_reason imported first, over transformers' Auto classes alone.
"""

import os
import statistics
import sys

from common import parser

AUTO = "from transformers import AutoConfig, AutoModel, AutoModelForCausalLM"
SIDES = {
    "python alone": "pass",
    "hf_reason": "import hf_reason",
    "Auto classes": AUTO,
    "hf_reason, then Auto classes": f"import hf_reason; {AUTO}",
    "Auto classes, then hf_reason": f"{AUTO}; import hf_reason",
    "Auto classes and StepReasoner's model": f"{AUTO}; from hf_reason import StepReasonerForCausalLM",
    "Auto classes and Qwen2's model": f"{AUTO}; from transformers import Qwen2ForCausalLM",
}


def seconds(code: str) -> float:
    """CPU seconds of a fresh process that runs `code`."""
    process = os.posix_spawn(sys.executable, [sys.executable, "-c", code], os.environ)
    _, status, usage = os.wait4(process, 0)
    if status:
        raise SystemExit(f"{code!r} failed.")
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--repeats", type=int, default=7, help="Processes of each side.")
    args = options.parse_args()
    found: dict[str, list[float]] = {name: [] for name in SIDES}
    for code in SIDES.values():
        seconds(code)  # fills the caches of bytecode and of the file system
    for _ in range(args.repeats):
        for name, code in SIDES.items():
            found[name].append(seconds(code))
    medians = {name: statistics.median(values) for name, values in found.items()}
    print(f"CPU seconds, medians of {args.repeats} (smallest - largest)")
    for name, values in found.items():
        print(f"  {name:<40} {medians[name]:6.2f}  ({min(values):.2f} - {max(values):.2f})")
    for first, second in (
        ("hf_reason, then Auto classes", "Auto classes"),
        ("Auto classes, then hf_reason", "Auto classes"),
        ("Auto classes and StepReasoner's model", "Auto classes and Qwen2's model"),
    ):
        print(f"{first} / {second}: {medians[first] / medians[second]:.2f}")


if __name__ == "__main__":
    main()
