"""The whole flow of LoAR: load a model, route its attention, train it on chains of thought, answer with a chain.

    accelerate launch --config_file recipes/accelerate/ddp.yaml --num_processes 4 recipes/loar.py \\
        --config recipes/configs/loar/demo.yaml
    python recipes/loar.py --config FILE.yaml --budget 0.5 --loar_window 512 --use_peft true    (with a LoRA)

The same as `hf-reason loar`; `--help` lists the arguments. `output_dir` gets the model (or its LoRA) and, beside it,
`loar_config.json` and `loar.safetensors`.
"""

import sys

from hf_reason.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["loar", *sys.argv[1:]]))
