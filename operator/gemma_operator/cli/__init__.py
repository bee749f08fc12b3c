"""The command line: one file a command, found here by name.

A command is a module with `NAME`, `HELP`, `EPILOG`, `add_arguments(parser)` and `run(args) -> int`. Only the
one that is called is imported, so `version` does not wait for kopf; `--help` imports all for their one line.
One that is not installed is not listed. Exit codes: 0, 1 where the answer is no or something failed, 2 for
bad input, 130 for Ctrl-C, 141 where nobody reads the answer any more (`plan … | head`): 1 would be taken for "no".
"""

from __future__ import annotations

import argparse
import errno
import importlib
import importlib.util
import io
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol, TextIO, cast

from gemma_operator.errors import GemmaOperatorError, UsageError

#: In the order in which `--help` lists them.
COMMANDS = ("plan", "pools", "memory", "run", "crd", "sandbox", "version")

#: What a shell reports of a program that SIGPIPE ended.
_NOBODY_READS: Final = 141
#: Of a device that takes no more of the answer.
_CANNOT_WRITE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG})

_DEFAULT_PROGRAM = "gemma-operator"
_EPILOG = """\
examples:
  gemma-operator plan -f chat.yaml --nodes nodes.yaml    what would be served where, without a cluster
  gemma-operator sandbox up                              a cluster with simulated GPUs on this machine
  gemma-operator run                                     the operator, against the current context
  gemma-operator COMMAND --help                          more examples
"""


class Command(Protocol):
    """What a command's module has."""

    NAME: str
    HELP: str
    EPILOG: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declares flags and arguments."""

    def run(self, args: argparse.Namespace) -> int:
        """Does it; the exit code."""


def main(argv: Sequence[str] | None = None, *, program: str = "") -> int:
    """Runs one command; never a traceback for what a user can mend."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    program = program or program_name(sys.argv[0])
    out = cast("TextIO | None", sys.stdout)  # None where the caller closed it
    if isinstance(out, io.TextIOWrapper):
        # a locale without a multiplication sign is no reason to say nothing
        out.reconfigure(errors="replace")
    try:
        code = _answered(program, arguments)
        if out is not None:
            out.flush()  # here, where it can be answered for; at exit Python would only complain
    except OSError as error:
        if not isinstance(error, BrokenPipeError) and error.errno not in _CANNOT_WRITE:
            raise
        _write_nowhere()
        if isinstance(error, BrokenPipeError):
            return _NOBODY_READS
        return _failed(program, f"cannot write the answer: {error.strerror}", code=1)
    return code


def _answered(program: str, arguments: Sequence[str]) -> int:
    try:
        args = _parser(program, arguments).parse_args(arguments)
        command: Command = args.command
        return command.run(args)
    except SystemExit as end:  # argparse has said what was wrong, or printed help
        return end.code if isinstance(end.code, int) else 2
    except UsageError as error:
        return _failed(program, error, code=2)
    except GemmaOperatorError as error:
        return _failed(program, error, code=1)
    except KeyboardInterrupt:
        return 130


def _write_nowhere() -> None:
    """What is still held back would fail once more at exit, with a complaint."""
    with suppress(OSError, ValueError):  # no file beneath it
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def program_name(argv0: str) -> str:
    """`kubectl gemma` for the plugin, as kubectl's users call it."""
    name = Path(argv0).name
    if name.startswith("kubectl-"):
        return name.replace("-", " ", 1)
    return name if name == _DEFAULT_PROGRAM else _DEFAULT_PROGRAM


def installed() -> tuple[str, ...]:
    """The commands whose modules exist."""
    return tuple(name for name in COMMANDS if importlib.util.find_spec(f"{__name__}.{name}") is not None)


def load(name: str) -> Command:
    """The module of one command."""
    return cast("Command", importlib.import_module(f"{__name__}.{name}"))


def _parser(program: str, arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program,
        description="Managed Gemma 4 on Kubernetes: one GemmaDeployment in, a healthy endpoint out.",
        epilog=_called(_EPILOG, program),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command_name", metavar="COMMAND", required=True)
    names = installed()
    wanted = arguments[0] if arguments else ""
    for name in (wanted,) if wanted in names else names:
        command = load(name)
        below = commands.add_parser(
            command.NAME,
            help=command.HELP,
            description=command.HELP,
            epilog=_called(command.EPILOG, program),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(below)
        below.set_defaults(command=command)
    return parser


def _called(epilog: str, program: str) -> str:
    """Examples as they are typed by who reads them."""
    return epilog.replace(f"{_DEFAULT_PROGRAM} ", f"{program} ")


def _failed(program: str, error: Exception | str, *, code: int) -> int:
    print(f"{program}: {' '.join(str(error).split())}", file=sys.stderr)
    return code
