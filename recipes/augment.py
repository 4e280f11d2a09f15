"""Make more training data of what is there: distractors, back-translated steps, pairs of a right and a wrong step.

    python recipes/augment.py --config recipes/configs/augment/demo.yaml
    python recipes/augment.py --dataset_name data/mine --distractors 0.5 --output_dir data/augmented ...

The same as `hf-reason augment`; `--help` lists the arguments. A run that was stopped continues.
"""

import sys

from hf_reason.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["augment", *sys.argv[1:]]))
