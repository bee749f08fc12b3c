"""`gemma-operator sandbox`: a real control plane, a simulated GPU fleet and simulated model servers, here."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gemma_operator.errors import GemmaOperatorError, UsageError
from gemma_operator.sandbox import build, fleet, session
from gemma_operator.sandbox.paths import StateFolder
from gemma_operator.sandbox.session import Sandbox
from gemma_operator.sandbox.status import status
from gemma_operator.sandbox.visit import Visit, visit

NAME = "sandbox"
HELP = "a Kubernetes cluster on this machine with a simulated GPU fleet; no root, no GPU"
EPILOG = """\
examples:
  gemma-operator sandbox up                          start it with the packaged fleet
  gemma-operator sandbox up --fleet fleet.yaml --name big
  export KUBECONFIG=$(gemma-operator sandbox kubeconfig)
  gemma-operator sandbox status -o json
  gemma-operator sandbox curl chat /v1/models        ask a ready pod behind the Service chat
  gemma-operator sandbox curl chat -n team-a /v1/chat/completions \\
      -d '{"model": "chat", "messages": [{"role": "user", "content": "Hello"}]}'
  gemma-operator sandbox down

The first `up` builds the control plane from pinned Go modules into the cache folder (5 to 10 minutes on
2 cores). KUBEBUILDER_ASSETS or --assets names a folder that holds all binaries of one version instead.
"""

UP = "start it; one that is up stays and gets the fleet of --fleet"
CURL = ("chat /v1/models", "chat -n team-a /v1/chat/completions -d @body.json")
_BAD_INPUT = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The subcommands."""
    commands = parser.add_subparsers(
        dest="action", required=True, metavar="build|up|down|status|kubeconfig|curl"
    )
    named = argparse.ArgumentParser(add_help=False)
    named.add_argument("--name", default="default", help="which sandbox (default: %(default)s)")

    def command(
        name: str, does: str, do: Callable[[argparse.Namespace], int], *examples: str
    ) -> argparse.ArgumentParser:
        lines = "\n".join(f"  {parser.prog} {name}{example and ' '}{example}" for example in examples)
        below = commands.add_parser(
            name,
            parents=[] if name == "build" else [named],
            help=does,
            description=does,
            epilog=f"examples:\n{lines}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        below.set_defaults(do=do)
        return below

    up = command("up", UP, _up, "", "--name big --fleet fleet.yaml")
    up.add_argument(
        "--fleet", metavar="FILE", type=Path, help="yaml file of node pools (default: a packaged fleet)"
    )
    up.add_argument(
        "--assets", metavar="DIR", help="folder with etcd, kube-apiserver, … and kwok, not to build them"
    )

    built = command("build", "build the control plane, or say where it lies", _build, "")
    built.add_argument("--assets", metavar="DIR", help="check this folder instead of building")

    down = command("down", "end a sandbox: no process and no file is left", _down, "", "--all")
    down.add_argument("--all", action="store_true", help="every sandbox of this user")

    shown = command("status", "what runs", _status, "", "-o json")
    shown.add_argument("-o", "--output", choices=["text", "json"], default="text")

    kubeconfig = command(
        "kubeconfig", "print the path of a kubeconfig", _kubeconfig, "", "--name big --as-operator"
    )
    kubeconfig.add_argument(
        "--as-operator",
        action="store_true",
        help="of the operator's ServiceAccount instead of an administrator",
    )

    curl = command("curl", "send a request to a ready pod behind a Service", _curl, *CURL)
    curl.add_argument("service", metavar="SERVICE", help="its name, which is that of the GemmaDeployment")
    curl.add_argument("path", metavar="PATH", help="for example /v1/models")
    curl.add_argument(
        "-n", "--namespace", default="default", help="of the Service (default: %(default)s)", metavar="NAME"
    )
    curl.add_argument("-d", "--data", metavar="BODY", help="POST this; @FILE reads a file, @- standard input")
    curl.add_argument("-N", "--no-buffer", action="store_true", help="print a stream as it comes")


def run(args: argparse.Namespace) -> int:
    """Exit code 0, 1 where the sandbox failed or answered with an error, 2 for bad input."""
    do: Callable[[argparse.Namespace], int] = args.do
    try:
        return do(args)
    except UsageError as error:
        _say(f"error: {error}")
        return _BAD_INPUT
    except BrokenPipeError:  # nobody reads any more: not the sandbox's fault
        raise
    except (GemmaOperatorError, OSError) as error:  # OSError: a cache folder that cannot be written, …
        _say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        _say("interrupted")
        return 130


def _up(args: argparse.Namespace) -> int:
    folder = StateFolder.named(args.name)
    chosen = fleet.read(args.fleet) if args.fleet else None
    if status(folder)["state"] != "up":
        sandbox = Sandbox.start(args.name, fleet=chosen, assets=args.assets, log=_say)
    else:
        sandbox = Sandbox.attach(args.name)
        _say(f"{args.name!r} is up already; `down` and `up` give a fresh one")
        if chosen is not None:
            sandbox.become(chosen)
            _say(f"its fleet is that of {args.fleet} now")
    with contextlib.closing(sandbox):
        _print_first_steps(args, sandbox)
    return 0


def _print_first_steps(args: argparse.Namespace, sandbox: Sandbox) -> None:
    flag = "" if args.name == "default" else f" --name {args.name}"
    kubectl = build.kubectl()
    print(f"{_bold('sandbox')} {sandbox.name} is up: {sandbox.url}")
    print("  a real control plane; nodes and model servers are simulated")
    print(f"  export KUBECONFIG={sandbox.kubeconfig}")
    print(f"  {kubectl if shutil.which('kubectl') is None and kubectl else 'kubectl'} get nodes")
    print(f"  gemma-operator sandbox status{flag}")
    print(f"  gemma-operator sandbox down{flag}")


def _build(args: argparse.Namespace) -> int:
    print(f"control plane {build.KUBERNETES_VERSION}: {build.binaries(args.assets, say=_say)}")
    return 0


def _down(args: argparse.Namespace) -> int:
    names = [folder.name for folder in StateFolder.all_existing()] if args.all else [args.name]
    for name in names:
        killed = session.remove(name, say=_say)
        print(f"sandbox {name}: " + (f"ended {', '.join(killed)}" if killed else "nothing ran"))
    return 0


def _status(args: argparse.Namespace) -> int:
    shown = status(StateFolder.named(args.name))
    if args.output == "json":
        print(json.dumps(shown, indent=2))
    else:
        _print_status(shown)
    return 0 if shown["state"] == "up" else 1


def _print_status(shown: dict[str, Any]) -> None:
    print(f"sandbox {shown['name']}: {_bold(shown['state'])}")
    if missing := shown["missing"]:
        print(f"  missing     {', '.join(missing)}")
    for key in ("url", "kubeconfig", "logs", "error"):
        if key in shown:
            print(f"  {key:<11} {shown[key]}")
    for key in ("nodes", "pods"):
        if key in shown:
            print(f"  {key:<11} {shown[key]['ready']} of {shown[key]['total']} ready (simulated)")
    for process in shown["processes"]:
        print(f"  {process['pid']:<11} {process['component']}")


def _kubeconfig(args: argparse.Namespace) -> int:
    with contextlib.closing(Sandbox.attach(args.name)) as sandbox:
        print(sandbox.operator_kubeconfig if args.as_operator else sandbox.kubeconfig)
    return 0


def _curl(args: argparse.Namespace) -> int:
    if not args.path.startswith("/"):
        raise UsageError(f"PATH must begin with '/', not {args.path!r}")
    asked = Visit(
        namespace=args.namespace,
        service=args.service,
        path=args.path,
        body=_body(args.data),
        stream=args.no_buffer,
    )
    with contextlib.closing(Sandbox.attach(args.name)) as sandbox:
        return visit(sandbox, asked, out=sys.stdout.buffer, say=_note)


def _body(data: str | None) -> bytes | None:
    if data is None or not data.startswith("@"):
        return None if data is None else data.encode()
    if data == "@-":
        return sys.stdin.buffer.read()
    try:
        return Path(data[1:]).read_bytes()
    except OSError as error:
        raise UsageError(f"{data[1:]} cannot be read: {error.strerror}") from error


def _say(message: str) -> None:
    print(f"sandbox: {message}", file=sys.stderr, flush=True)


def _note(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def _bold(text: str) -> str:
    return f"\033[1m{text}\033[0m" if sys.stdout.isatty() and "NO_COLOR" not in os.environ else text
