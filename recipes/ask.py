"""Ask a trained model one question and see its steps.

    python recipes/ask.py --model_name_or_path outputs/demo/demo --question "小明有12个苹果,又买来5个。一共多少?"
    python recipes/ask.py --model_name_or_path outputs/demo/demo --num_samples 8 --vote true --temperature 0.7

The same as `hf-reason ask`; `--help` lists the arguments.
"""

import sys

from hf_reason.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["ask", *sys.argv[1:]]))
