"""`gemma-operator version`: which version this is, and what it was built for."""

from __future__ import annotations

import argparse
import json
import platform

from gemma_operator import __version__
from gemma_operator.api.names import API_VERSION

NAME = "version"
HELP = "print the version"
EPILOG = """\
examples:
  gemma-operator version
  gemma-operator version -o json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How to print it."""
    parser.add_argument(
        "-o", "--output", choices=("text", "json"), default="text", help="default: %(default)s"
    )


def run(args: argparse.Namespace) -> int:
    """Always 0."""
    if args.output == "json":
        facts = {"version": __version__, "api": API_VERSION, "python": platform.python_version()}
        print(json.dumps(facts))
    else:
        print(f"gemma-operator {__version__}")
    return 0
