"""Evaluate reasoning models: a table here; JSON, predictions and plots in a folder.

    python recipes/evaluate.py --model_name_or_path out/sft out/base --dataset_name prepared --output_dir report
    accelerate launch recipes/evaluate.py --model_name_or_path user/name --max_records 200 --num_samples 4

The same as `hf-reason evaluate`; `--help` lists the arguments. Several models are compared with the first.
"""

import sys

from hf_reason.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
