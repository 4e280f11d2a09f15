"""Fine-tune a model on chains of thought, evaluate it on generated answers, write its card, push it.

    accelerate launch --config_file recipes/accelerate/ddp.yaml --num_processes 4 recipes/sft_cot.py \\
        --config recipes/configs/sft_cot/qwen2.5-0.5b-110k.yaml
    torchrun --nproc_per_node 2 recipes/sft_cot.py --config FILE.yaml --use_cpu true

The same as `hf-reason sft`, which starts the processes itself; `--help` lists the arguments. A run that was stopped
resumes with the same command.
"""

import sys

from hf_reason.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["sft", *sys.argv[1:]]))
