"""`gemma-operator crd`: the CustomResourceDefinitions that belong to this version."""

import argparse
import sys
from pathlib import Path

from gemma_operator.api import crd
from gemma_operator.errors import UsageError

NAME = "crd"
HELP = "print the CustomResourceDefinitions, write them to a folder, or compare them with one"
EPILOG = """\
examples:
  gemma-operator crd | kubectl apply --server-side -f -    install or update both kinds
  gemma-operator crd --output-dir crds                     write one file a kind
  gemma-operator crd --check crds                          exit 1 when the files are not those of this version
"""

_DIFFERENT = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to, or with what to compare."""
    target = parser.add_mutually_exclusive_group()
    target.add_argument("--output-dir", type=Path, metavar="DIR", help="write one file a kind into DIR")
    target.add_argument(
        "--check", type=Path, metavar="DIR", help="exit 1 when DIR's files differ; write nothing"
    )


def run(args: argparse.Namespace) -> int:
    """0, or 1 when `--check` finds a difference."""
    if args.check is not None:
        return _check(args.check)
    if args.output_dir is not None:
        return _write(args.output_dir)
    print("---\n".join(crd.files().values()), end="")
    return 0


def _check(folder: Path) -> int:
    wrong = [
        f"{folder / name}: {'differs' if (folder / name).is_file() else 'is missing'}"
        for name, text in crd.files().items()
        if not (folder / name).is_file() or (folder / name).read_text(encoding="utf-8") != text
    ]
    for line in wrong:
        print(line, file=sys.stderr)
    if wrong:
        print(f"run: gemma-operator crd --output-dir {folder}", file=sys.stderr)
    return _DIFFERENT if wrong else 0


def _write(folder: Path) -> int:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in crd.files().items():
            (folder / name).write_text(text, encoding="utf-8")
            print(folder / name)
    except OSError as error:
        raise UsageError(f"cannot write to {folder}: {error.strerror}") from error
    return 0
