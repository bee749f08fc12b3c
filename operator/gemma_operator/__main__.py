"""`python -m gemma_operator`, `gemma-operator` and `kubectl-gemma`: the same program."""

import sys

from gemma_operator.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
