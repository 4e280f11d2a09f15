"""The whole way on the built-in data: raw traces, clean records, two models, their reports, one question.

    make demo                                  (or: python recipes/demo.py, hf-reason demo)
    make demo QUESTION="小明有12个苹果,又买来25个,卖出8个。现在有多少个苹果?"
    make demo STEP_REASONER=1

What was finished before is not done again; `make clean` starts anew.
"""

import sys

from hf_reason.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["demo", *sys.argv[1:]]))
