"""`python -m hf_reason.cli <command>`, the same as `hf-reason <command>`."""

import sys

from .main import main

if __name__ == "__main__":  # worker processes of `prepare` import this module, too
    sys.exit(main())
