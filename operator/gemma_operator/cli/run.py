"""`gemma-operator run`: the operator itself, in a pod or against any kubeconfig."""

from __future__ import annotations

import argparse
import asyncio
import logging
import math
import sys
from pathlib import Path

from gemma_operator.cli import settings_file
from gemma_operator.errors import UsageError
from gemma_operator.settings import OperatorSettings

NAME = "run"
HELP = "run the operator until SIGTERM or Ctrl-C"
EPILOG = """\
examples:
  gemma-operator run                                   in a pod, or with the current context
  gemma-operator run --context staging --metrics-port 0
  gemma-operator run --settings settings.yaml --catalog my-catalog/
  gemma-operator run --no-leader-election              on a laptop, when no other one runs

Settings of the file are overridden by flags. --metrics-port 0 takes any free port and logs it.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to, and which settings."""
    parser.add_argument(
        "--kubeconfig", metavar="FILE", default="", help="default: KUBECONFIG, the pod's own, ~/.kube"
    )
    parser.add_argument("--context", metavar="NAME", default="", help="default: the current one")
    parser.add_argument(
        "--settings", metavar="FILE", type=Path, help="yaml file with the operator's settings"
    )
    parser.add_argument(
        "--catalog", metavar="DIR", help="folder with yaml files laid over the packaged catalog"
    )
    parser.add_argument("--namespace", metavar="NAME", help="where the Lease lives (default: gemma-system)")
    parser.add_argument("--metrics-port", metavar="N", type=int, help="default: 8080")
    parser.add_argument("--probe-period", metavar="SECONDS", type=float, help="default: 30")
    parser.add_argument("--log-format", choices=("text", "json"), help="default: text")
    parser.add_argument(
        "--no-leader-election",
        action="store_true",
        help="do not take the Lease; only where no second operator can run",
    )


def run(args: argparse.Namespace) -> int:
    """0 after an orderly stop."""
    settings = _settings(args)
    # kopf and its friends take a third of a second to import: not before the input is known to be good
    from gemma_operator import app  # noqa: PLC0415
    from gemma_operator.apiserver.credentials import source  # noqa: PLC0415
    from gemma_operator.controller.logs import set_up  # noqa: PLC0415

    set_up(settings.log_format, stream=sys.stderr)
    asyncio.run(
        app.run(
            settings,
            source=source(kubeconfig=args.kubeconfig, context=args.context),
            leader_election=not args.no_leader_election,
        )
    )
    logging.getLogger(__name__).info("stopped")
    return 0


def _settings(args: argparse.Namespace) -> OperatorSettings:
    settings = settings_file.read(args.settings) if args.settings else OperatorSettings()
    flags = {
        "catalog_dir": args.catalog,
        "namespace": args.namespace,
        "metrics_port": args.metrics_port,
        "probe_period_seconds": args.probe_period,
        "log_format": args.log_format,
    }
    settings = settings.with_changes(**{name: value for name, value in flags.items() if value is not None})
    _check(settings)
    return settings


def _check(settings: OperatorSettings) -> None:
    if not 0 <= settings.metrics_port <= 65535:
        raise UsageError(f"--metrics-port must be 0 to 65535, not {settings.metrics_port}")
    if not 0 < settings.probe_period_seconds < math.inf:
        raise UsageError(f"--probe-period must be more than 0 seconds, not {settings.probe_period_seconds}")
    if settings.catalog_dir and not Path(settings.catalog_dir).is_dir():
        raise UsageError(f"--catalog: {settings.catalog_dir} is not a folder")
