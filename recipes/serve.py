"""Serve trained models over OpenAI's API.

    python recipes/serve.py --model_name_or_path outputs/demo/demo
    python recipes/serve.py --model_name_or_path outputs/mine --adapters finance=outputs/finance --port 8080

The same as `hf-reason serve`; `--help` lists the arguments. Needs the extra `serve`.
"""

import sys

from hf_reason.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["serve", *sys.argv[1:]]))
