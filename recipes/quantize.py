"""Quantise a model, calibrated on its own chains, and compare it with the model before.

    python recipes/quantize.py --model_name_or_path out/sft --dataset_name prepared --output_dir out/quantized
    python recipes/quantize.py --config recipes/configs/quantize/demo.yaml

The same as `hf-reason quantize`; `--help` lists the arguments.
"""

import sys

from hf_reason.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["quantize", *sys.argv[1:]]))
