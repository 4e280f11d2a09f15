"""Turn raw distilled traces into a data set for training, with a report.

    python recipes/prepare_data.py --dataset_name traces.jsonl more/ user/data-on-the-hub --output_dir prepared

The same as `hf-reason prepare`; `--help` lists the arguments. Files (JSON, JSONL, Parquet, CSV), folders of them and
Hub data sets are told apart by their columns. A run that was killed resumes.
"""

import sys

from hf_reason.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["prepare", *sys.argv[1:]]))
