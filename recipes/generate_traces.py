"""Let a teacher answer problems several times, verify the answers, and keep the good chains as data to train on.

    python recipes/generate_traces.py --config recipes/configs/generate_traces/server.yaml --dataset_name mine.jsonl
    python recipes/generate_traces.py --teacher_model_name_or_path out/teacher --output_dir out/traces ...

The same as `hf-reason generate-traces`; `--help` lists the arguments. A run that was stopped resumes.
"""

import sys

from hf_reason.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["generate-traces", *sys.argv[1:]]))
