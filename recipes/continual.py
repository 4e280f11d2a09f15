"""Train a finished model further on new records (a new domain, feedback), and measure what it forgets.

    python recipes/continual.py --config recipes/configs/continual/demo.yaml
    python recipes/continual.py --model_name_or_path out/round1 --dataset_name feedback.jsonl \\
        --old_dataset data/mine --replay_ratio 0.3 --output_dir out/round2 --push_to_hub true

The same as `hf-reason continual`; `--help` lists the arguments. Old and new domains are evaluated before and after;
a model whose accuracy on an old domain fell by more than `max_drop` points is not published (exit code 3).
"""

import sys

from hf_reason.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["continual", *sys.argv[1:]]))
