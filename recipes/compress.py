"""The whole path from a teacher to a small model: a student of it, pruned, recovered, quantised.

    python recipes/compress.py --config recipes/configs/compress/demo.yaml

The same as `hf-reason compress`; `--help` lists the arguments.
"""

import sys

from hf_reason.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["compress", *sys.argv[1:]]))
