"""Fine-tune a finished model with a LoRA on the layers that reason, and prove that nothing else moved.

    accelerate launch --config_file recipes/accelerate/ddp.yaml --num_processes 4 recipes/lora_reasoner.py \\
        --config recipes/configs/lora_reasoner/demo.yaml
    python recipes/lora_reasoner.py --config FILE.yaml --reasoner_layers 8-15 --load_in_4bit true    (QLoRA, extra bnb)

The same as `hf-reason lora`; `--help` lists the arguments. `output_dir` gets the adapter, the ranking of the layers,
the report and the card.
"""

import sys

from hf_reason.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["lora", *sys.argv[1:]]))
