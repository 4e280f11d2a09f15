"""Distil a teacher into a student on chains of thought, evaluate it on generated answers, write its card, push it.

    accelerate launch --config_file recipes/accelerate/ddp.yaml --num_processes 4 recipes/distill_kl.py \\
        --config recipes/configs/distill_kl/demo.yaml --teacher_model_name_or_path path/or/name
    python recipes/distill_kl.py --config FILE.yaml --teacher_model_name_or_path data/mine-teacher    (from a cache)
    python recipes/distill_kl.py --config FILE.yaml --teacher_model_name_or_path self --use_peft true

The same as `hf-reason distill`; `--help` lists the arguments. The student is `model_name_or_path`, a part of the
teacher (`student_layers`, `student_config`), or a model from scratch (`model_config`).
"""

import sys

from hf_reason.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["distill", *sys.argv[1:]]))
