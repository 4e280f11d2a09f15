"""Train a finished reasoning model further by rewards (GRPO), with credit for single steps.

    accelerate launch --config_file recipes/accelerate/ddp.yaml --num_processes 4 recipes/grpo.py \\
        --config recipes/configs/grpo/qwen2.5-0.5b.yaml
    python recipes/grpo.py --config recipes/configs/grpo/demo.yaml

The same as `hf-reason grpo`; `--help` lists the arguments. `output_dir` gets the model, the report and the card.
"""

import sys

from hf_reason.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["grpo", *sys.argv[1:]]))
