"""`python -m hf_reason.cli <command>`, the same as `hf-reason <command>`."""

import sys

from .main import main

sys.exit(main())
