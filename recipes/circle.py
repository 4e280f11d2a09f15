"""Serve a model, learn from the feedback of its users, test the new version on them, promote it or roll it back.

    python recipes/circle.py --config recipes/configs/circle/demo.yaml
    python recipes/circle.py --model_name_or_path outputs/mine --continual.old_dataset data/mine \\
        --serve.port 8080 --output_dir outputs/round2

The same as `hf-reason circle`; `--help` lists the arguments. Needs the extra `serve`.
"""

import sys

from hf_reason.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["circle", *sys.argv[1:]]))
