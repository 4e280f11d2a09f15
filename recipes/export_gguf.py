"""Write a model as one GGUF file, read it again and compare it with the model.

    python recipes/export_gguf.py --model_name_or_path out/sft --outfile out/sft-q8_0.gguf

The same as `hf-reason export-gguf`; `--help` lists the arguments.
"""

import sys

from hf_reason.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["export-gguf", *sys.argv[1:]]))
