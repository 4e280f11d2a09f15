"""Prune a model, let it recover, and compare it with the model before.

    python recipes/prune.py --model_name_or_path out/sft --dataset_name prepared --output_dir out/pruned
    python recipes/prune.py --config recipes/configs/prune/demo.yaml

The same as `hf-reason prune`; `--help` lists the arguments.
"""

import sys

from hf_reason.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["prune", *sys.argv[1:]]))
