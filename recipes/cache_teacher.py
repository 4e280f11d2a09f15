"""Run a teacher once over records and keep its top-k distributions on disk; training then needs no teacher.

    python recipes/cache_teacher.py --dataset_name data/mine --teacher_model_name_or_path Qwen/Qwen2.5-7B-Instruct
    torchrun --nproc_per_node 8 recipes/cache_teacher.py --dataset_name data/mine --path_consistency true ...
    python recipes/distill_kl.py --teacher_model_name_or_path data/mine-teacher ...

The same as `hf-reason cache-teacher`; `--help` lists the arguments. A run that was stopped resumes.
"""

import sys

from hf_reason.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["cache-teacher", *sys.argv[1:]]))
