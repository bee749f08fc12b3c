"""`gemma-operator plan`: what would be served where, and why the rest would not, without touching anything."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gemma_operator.catalog.records import Catalog
from gemma_operator.cli import asked, documents, fleets, plan_text, settings_file, sum_text, what_if
from gemma_operator.cli.asked import Asked
from gemma_operator.cli.fleets import Fleet
from gemma_operator.cli.plan_text import Answer
from gemma_operator.errors import UsageError
from gemma_operator.hardware.pools import filtered
from gemma_operator.planner import alternatives, explain, listing, sums
from gemma_operator.planner.choice import Choice
from gemma_operator.planner.feasible import feasible, unknown_accelerators
from gemma_operator.planner.listing import Listed
from gemma_operator.planner.placement import Ask, owner_of, place_all
from gemma_operator.planner.plan import from_choice, to_status
from gemma_operator.planner.request import inputs_hash
from gemma_operator.planner.sums import Sum
from gemma_operator.planner.values import Feasible
from gemma_operator.settings import OperatorSettings

NAME = "plan"
HELP = "show what a GemmaDeployment would be served with, and where"
EPILOG = """\
examples:
  gemma-operator plan -f chat.yaml                         on the cluster that kubectl talks to
  gemma-operator plan -f chat.yaml --nodes nodes.yaml      without a cluster
  kubectl get nodes,pods -A -o json | gemma-operator plan -f chat.yaml --nodes -
  gemma-operator plan -f chat.yaml --nodes pools.yaml -o json | jq .plan.variant
  gemma-operator plan -f chat.yaml --nodes nodes.yaml --all
  gemma-operator plan -f chat.yaml --nodes nodes.yaml --explain 31B/bf16/gke-nodepool/h100/1
  gemma-operator plan -f chat.yaml --nodes nodes.yaml --settings settings.yaml   as that operator would
  gemma-operator plan -f chat.yaml --what-if gpu=nvidia-l4:4,nodes=2 --prices prices.yaml

Pods in --nodes take their GPUs from the room, and placed Deployments what their pods have still to get; without
them every GPU counts as free. Exit codes: 0 a plan, 1 nothing fits or nothing has room, 2 bad input.
"""

NO_PLAN = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which GemmaDeployment, which fleet, and how the answer is printed."""
    parser.add_argument(
        "-f", "--filename", required=True, metavar="FILE", help="a GemmaDeployment (- is standard input)"
    )
    parser.add_argument(
        "-n", "--namespace", metavar="NAME", help="of a GemmaDeployment that names none (default: default)"
    )
    fleets.add_arguments(parser)
    fleets.add_prices(parser)
    parser.add_argument(
        "--settings",
        type=Path,
        metavar="FILE",
        help="the operator's settings, as `run` takes them: poolAccess, the default engine, catalogDir, priceFile",
    )
    parser.add_argument(
        "--what-if",
        action="append",
        default=[],
        metavar="gpu=NAME:GPUS[,nodes=N]",
        help="plan as if such nodes were there too; may be given several times",
    )
    parser.add_argument(
        "--all", action="store_true", help="show every candidate, not the ten that a status holds"
    )
    parser.add_argument("--explain", metavar="CANDIDATE", help="the memory sum of one, by its name in --all")
    parser.add_argument("-o", "--output", choices=("table", "json", "yaml"), default="table")


def run(args: argparse.Namespace) -> int:
    """0 where there is a plan, else 1."""
    if args.filename == documents.STDIN and documents.STDIN in (args.nodes or ()):
        raise UsageError("-f - and --nodes -: standard input holds one of the two: give a file for the other")
    settings = settings_file.read(args.settings) if args.settings else OperatorSettings()
    catalog = fleets.catalog(args, settings)
    question = asked.from_file(args.filename, settings, namespace=args.namespace)
    fleet = what_if.with_nodes(_fleet(args), args.what_if, catalog)
    fleet = replace(fleet, access=settings.pool_access)
    answer = plan(question, fleet, catalog, planned_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
    shown = None if args.explain is None else _explained(args.explain, answer, question, catalog)
    for line in fleets.notes(fleet):
        print(line, file=sys.stderr)
    if args.output != "table":
        print(_document(answer, args.output, every=args.all, shown=shown))
    elif shown:
        print("\n".join(plan_text.explained(*shown)))
    else:
        print("\n".join(plan_text.lines(question.key, answer, every=args.all)))
    return 0 if answer.plan is not None else NO_PLAN


def _fleet(args: argparse.Namespace) -> Fleet:
    """Without a cluster at hand `--what-if` is a fleet by itself, and says that it is."""
    try:
        return fleets.from_arguments(args)
    except UsageError as error:
        if args.nodes or args.context or args.kubeconfig or not args.what_if:
            raise
        print(f"note: planned on --what-if alone: {error}", file=sys.stderr)
        return fleets.of_objects(())


def _explained(name: str, answer: Answer, question: Asked, catalog: Catalog) -> tuple[Listed, Sum | None]:
    found = listing.called(answer.candidates, name)
    if not found:
        near = listing.nearest(answer.candidates, name)
        hint = f"; nearest: {', '.join(near)}" if near else ""
        raise UsageError(f"--explain: no candidate is called {name}{hint}; --all lists them")
    if len(found) > 1:
        raise UsageError(f"--explain: {name} may be {', '.join(each.name for each in found)}")
    one = found[0]
    return one, sums.sum_of(one.candidate, one.fit, request=question.request, catalog=catalog)


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
    choice = place_all(
        [ask], pools=pools, pods=fleet.pods, placed=others, catalog=catalog, rules=fleet.rules
    )[question.key]
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
        why_not="" if made else _why_not(question, choice, verdict, catalog, empty=not pools),
        alternatives=explain.alternatives(choice, verdict),
        candidates=listing.listed(choice, verdict),
        replicas=ask.replicas,
    )


def _why_not(question: Asked, choice: Choice, verdict: Feasible, catalog: Catalog, *, empty: bool) -> str:
    if choice.fit is not None:
        return explain.barred(choice) if choice.barred else explain.waiting(choice, question.request)
    if unknown := unknown_accelerators(question.request, catalog):
        return explain.unknown_accelerators(unknown)
    return explain.no_pools() if empty else explain.nothing_fits(verdict, question.request)


def _document(answer: Answer, output: str, *, every: bool, shown: tuple[Listed, Sum | None] | None) -> str:
    document: dict[str, Any] = {
        "plan": to_status(answer.plan) if answer.plan else None,
        "alternatives": [alternatives.to_status(each) for each in answer.alternatives],
    }
    if every:
        document["candidates"] = [plan_text.candidate_document(each) for each in answer.candidates]
    if shown:
        one, total = shown
        steps = sum_text.document(total) if total else []
        document["explanation"] = {**plan_text.candidate_document(one), "steps": steps}
    return documents.printed(document, output)
