"""`gemma-operator plan`: what would be served where, and why the rest would not, without touching anything."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime
from typing import Any

import yaml

from gemma_operator.catalog.records import Catalog
from gemma_operator.cli import asked, fleets, plan_text
from gemma_operator.cli.asked import Asked
from gemma_operator.cli.fleets import Fleet
from gemma_operator.cli.plan_text import Answer
from gemma_operator.hardware.pools import filtered
from gemma_operator.planner import explain
from gemma_operator.planner.choice import Choice
from gemma_operator.planner.feasible import feasible, unknown_accelerators
from gemma_operator.planner.placement import Ask, owner_of, place_all
from gemma_operator.planner.plan import from_choice, to_status
from gemma_operator.planner.request import inputs_hash
from gemma_operator.planner.values import Alternative, Feasible

NAME = "plan"
HELP = "show what a GemmaDeployment would be served with, and where"
EPILOG = """\
examples:
  gemma-operator plan -f chat.yaml                         on the cluster that kubectl talks to
  gemma-operator plan -f chat.yaml --nodes nodes.yaml      without a cluster
  kubectl get nodes,pods -A -o json | gemma-operator plan -f chat.yaml --nodes -
  gemma-operator plan -f chat.yaml --nodes pools.yaml -o json | jq .plan.variant

Pods in --nodes take their GPUs from the room, and placed Deployments what their pods have still to get; without
them every GPU counts as free. Exit codes: 0 a plan, 1 nothing fits or nothing has room, 2 bad input.
"""

NO_PLAN = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which GemmaDeployment, which fleet, and how the answer is printed."""
    parser.add_argument(
        "-f", "--filename", required=True, metavar="FILE", help="a GemmaDeployment (- is standard input)"
    )
    fleets.add_arguments(parser)
    parser.add_argument("-o", "--output", choices=("table", "json", "yaml"), default="table")


def run(args: argparse.Namespace) -> int:
    """0 where there is a plan, else 1."""
    catalog = fleets.catalog(args)
    question = asked.from_file(args.filename)
    fleet = fleets.from_arguments(args)
    answer = plan(question, fleet, catalog, planned_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
    for line in fleets.notes(fleet):
        print(line, file=sys.stderr)
    if args.output == "table":
        print("\n".join(plan_text.lines(question.key, answer)))
    else:
        print(_document(answer, args.output))
    return 0 if answer.plan is not None else NO_PLAN


def plan(question: Asked, fleet: Fleet, catalog: Catalog, *, planned_at: str) -> Answer:
    """As the operator places: feasible, then chosen by order and room."""
    request = question.request
    pools = fleet.pools(catalog)
    shapes = [pool.shape for pool in filtered(pools, request.node_selector)]
    verdict = feasible(request, shapes, catalog)
    spec = question.deployment.spec
    ask = Ask(
        key=question.key,
        uid="",
        created_at=planned_at,
        replicas=0 if spec.suspend else spec.replicas,
        request=request,
        feasible=verdict,
    )
    others = [claim for claim in fleet.placed if claim.key != owner_of(question.key)]
    choice = place_all([ask], pools=pools, pods=fleet.pods, placed=others, catalog=catalog)[question.key]
    made = None
    if choice.placed:
        made = from_choice(
            choice,
            request,
            catalog=catalog,
            inputs_hash=inputs_hash(request),
            planned_at=planned_at,
            unverified=question.unknown_arguments,
        )
    return Answer(
        choice=choice,
        plan=made,
        why_not="" if made else _why_not(question, choice, verdict, catalog, empty=not shapes),
        alternatives=explain.alternatives(choice, verdict),
        replicas=ask.replicas,
    )


def _why_not(question: Asked, choice: Choice, verdict: Feasible, catalog: Catalog, *, empty: bool) -> str:
    if choice.fit is not None:
        return explain.waiting(choice, question.request)
    if unknown := unknown_accelerators(question.request, catalog):
        return explain.unknown_accelerators(unknown)
    return explain.no_pools() if empty else explain.nothing_fits(verdict, question.request)


def _document(answer: Answer, output: str) -> str:
    document = {
        "plan": to_status(answer.plan) if answer.plan else None,
        "alternatives": [_alternative(each) for each in answer.alternatives],
    }
    if output == "json":
        return json.dumps(document, indent=2, ensure_ascii=False)
    return str(yaml.safe_dump(document, sort_keys=False, allow_unicode=True)).rstrip()


def _alternative(alternative: Alternative) -> dict[str, Any]:
    """As status.alternatives has it: what is not known is left out."""
    document = {
        "backend": alternative.backend,
        "variant": alternative.variant,
        "precision": alternative.precision,
        "pool": alternative.pool,
        "accelerator": alternative.accelerator,
        "acceleratorsPerReplica": alternative.accelerators_per_replica,
        "code": alternative.code,
        "message": alternative.message,
    }
    return {key: value for key, value in document.items() if value}
