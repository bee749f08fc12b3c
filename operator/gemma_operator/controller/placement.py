"""Chooses and claims for all that ask, in one serialised step.

Whoever asks within a short time is placed together, by creationTimestamp and then uid, so that the order of
events decides nothing. Choosing and claiming happen with no await between. A claim is not kept anywhere: it
is what placed plans still have to get, taken anew from the Deployments (or from the answers that were given
and not written yet) at each step, so a restart finds the same claims.

Who could not be placed stays here and is tried again when the fleet has changed; it is woken only when the
answer is another one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from gemma_operator.api.conditions import Reason
from gemma_operator.backends.kubernetes.snapshot import Key, Placement, Snapshot
from gemma_operator.catalog.records import Catalog
from gemma_operator.controller.fleet import Fleet
from gemma_operator.controller.inputs import Inputs
from gemma_operator.controller.questions import Question, as_left, moment, question_of, told
from gemma_operator.controller.surges import Surges
from gemma_operator.hardware.pools import filtered
from gemma_operator.planner import correction, explain
from gemma_operator.planner.alternatives import alternatives
from gemma_operator.planner.choice import Choice
from gemma_operator.planner.feasible import feasible, unknown_accelerators
from gemma_operator.planner.placement import Ask, PlacedClaim, place_all
from gemma_operator.planner.plan import from_choice, from_status
from gemma_operator.planner.shapes import pool_not_listed
from gemma_operator.planner.values import Feasible, Plan, Request
from gemma_operator.settings import OperatorSettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Placed:
    """A deployment that has a plan, as the Deployment or the status carries it."""

    key: Key
    plan: Plan
    replicas: int
    node_selector: tuple[tuple[str, str], ...]
    #: Pods that exist, and how many of them a scheduling gate holds.
    made: int = 0
    gated: int = 0


class PlacementDesk:
    """Where deployments ask for a plan and find the answer."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        settings: OperatorSettings,
        fleet: Fleet,
        placed: Callable[[], Iterable[Placed]],
        wake: Callable[[Key], None],
        now_iso: Callable[[], str],
    ) -> None:
        self._catalog = catalog
        self._settings = settings
        self._fleet = fleet
        self._placed = placed
        self._wake = wake
        self._now_iso = now_iso
        self.surges = Surges(fleet=fleet, claims=self.claims)
        self._questions: dict[Key, Question] = {}
        self._answers: dict[Key, Placement] = {}
        self._verdicts: dict[Key, tuple[int, str, Feasible]] = {}
        #: Plans that were answered and may not stand in a Deployment or a status yet.
        self._unwritten: dict[Key, tuple[Question, Plan]] = {}
        self._asked = asyncio.Event()
        self._changed = asyncio.Event()

    def ask(self, snapshot: Snapshot, request: Request) -> None:
        """Puts a question; the key is woken when it is answered. One that cannot be reckoned is the asker's trouble."""
        question = question_of(snapshot, request)
        self._verdict(question)
        self._questions[snapshot.key] = question
        self._asked.set()

    def answer(self, key: Key) -> Placement | None:
        """The last answer, whatever it was asked for."""
        return self._answers.get(key)

    def forget(self, key: Key) -> None:
        """The object is gone, and with it its claim."""
        self._questions.pop(key, None)
        self._answers.pop(key, None)
        self._verdicts.pop(key, None)
        self._unwritten.pop(key, None)
        self.room_changed()

    def looked_at(self, snapshot: Snapshot) -> None:
        """The object as it stands now: a question that it asks no more is withdrawn, and so is its answer.

        An answer that stands in the object is a claim by itself; one to another question would claim for ever.
        """
        key = snapshot.key
        question = self._questions.get(key)
        if question is not None and not self._still_asks(question, snapshot):
            del self._questions[key]
        answered = self._unwritten.get(key)
        if answered is None:
            return
        question, plan = answered
        if snapshot.plan is not None and _stands(plan, snapshot.plan):
            del self._unwritten[key]
        elif not self._still_asks(question, snapshot):
            del self._unwritten[key]
            self.room_changed()

    @staticmethod
    def _still_asks(question: Question, snapshot: Snapshot) -> bool:
        same = (question.uid, question.token) == (snapshot.uid, snapshot.ask_token)
        return same and not snapshot.terminating

    def room_changed(self) -> None:
        """Something came, went or was resized: who waits is looked at again."""
        if self._questions:
            self._changed.set()

    def rebuilt(self, key: Key, status: Mapping[str, Any], inputs: Inputs) -> Plan | None:
        """The plan that a status speaks of, where nothing else carries it; None for other inputs than these."""
        plan = status.get("plan")
        if not plan or inputs.request is None or plan.get("inputsHash") != inputs.inputs_hash:
            return None
        known_short_mib = int(plan.get("correctionMiB", 0))
        verdict = self._feasible(key, inputs.request, inputs.inputs_hash, correction_mib=known_short_mib)
        return from_status(plan, verdict, inputs.request, catalog=self._catalog)

    async def run(self) -> None:
        """Answers until cancelled; changes of the fleet are let settle first."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._answer_askers())
            group.create_task(self._answer_waiters())

    async def _answer_askers(self) -> None:
        while True:
            await self._asked.wait()
            await asyncio.sleep(self._settings.placement_debounce_seconds)
            self._asked.clear()
            self.step()

    async def _answer_waiters(self) -> None:
        while True:
            await self._changed.wait()
            await asyncio.sleep(self._settings.fleet_debounce_seconds)
            self._changed.clear()
            self.step()

    def step(self) -> None:
        """Choose and claim for all that ask. No await in here: two steps never see the same room."""
        verdicts = self._verdicts_of(list(self._questions.values()))
        questions = [self._questions[key] for key in verdicts]
        if not questions:
            return
        choices = place_all(
            [
                Ask(
                    key=(question.key.namespace, question.key.name),
                    uid=question.uid,
                    created_at=question.created_at,
                    replicas=question.replicas,
                    request=question.request,
                    feasible=verdicts[question.key],
                    left=question.left,
                    leaving=question.leaving,
                    kept=question.kept,
                )
                for question in questions
            ],
            pools=self._fleet.pools,
            pods=self._fleet.pods,
            placed=[claim for claim in self.claims() if Key(*claim.key) not in verdicts],
            catalog=self._catalog,
            rules=self._fleet.rules,
            quarantined=self._fleet.quarantined,
        )
        for question in questions:
            choice = choices[question.key.namespace, question.key.name]
            self._give(question, self._placement(question, choice, verdicts[question.key]))

    def _give(self, question: Question, answer: Placement) -> None:
        if answer.plan is not None:
            del self._questions[question.key]
            self._unwritten[question.key] = (question, answer.plan)
        if self._answers.get(question.key) != answer:
            self._answers[question.key] = answer
            self._wake(question.key)

    def claims(self) -> list[PlacedClaim]:
        """What has a plan: as written, or as answered a moment ago.

        Who asks anew claims nothing of the old, but for who keeps it while nothing else has room.
        """
        placed: dict[Key, Placed] = {each.key: each for each in self._placed()}
        for key, (question, plan) in self._unwritten.items():
            if key not in placed or not _stands(plan, placed[key].plan):
                placed[key] = Placed(key, plan, question.replicas, question.request.node_selector)
        return [
            PlacedClaim(
                key=(each.key.namespace, each.key.name),
                pool=each.plan.pool,
                demand=each.plan.demand,
                replicas=each.replicas + self.surges.more(each.key),
                node_selector=each.node_selector,
                made=each.made,
                gated=each.gated,
            )
            for each in placed.values()
            if each.key not in self._questions or self._questions[each.key].kept is not None
        ]

    def _verdicts_of(self, questions: list[Question]) -> dict[Key, Feasible]:
        """Who cannot be reckoned on the fleet as it is now is woken to ask again, and fails alone."""
        verdicts: dict[Key, Feasible] = {}
        for question in questions:
            try:
                verdicts[question.key] = self._verdict(question)
            except Exception:
                logger.exception("%s: what fits could not be reckoned", question.key)
                del self._questions[question.key]
                self._wake(question.key)
        return verdicts

    def _verdict(self, question: Question) -> Feasible:
        verdict = self._feasible(
            question.key, question.request, question.inputs_hash, correction_mib=question.correction_mib
        )
        return correction.without(verdict, question.refused) if question.refused else verdict

    def _feasible(self, key: Key, request: Request, inputs_hash: str, *, correction_mib: int) -> Feasible:
        pools = self._fleet.pools
        asked = f"{inputs_hash}+{correction_mib}"
        version, known, verdict = self._verdicts.get(key, (-1, "", None))
        if verdict is None or (version, known) != (self._fleet.version, asked):
            seen = filtered(pools, request.node_selector)
            catalog = correction.corrected(self._catalog, request.engine, correction_mib)
            verdict = feasible(request, [pool.shape for pool in seen], catalog)
            self._verdicts[key] = (self._fleet.version, asked, verdict)
        return verdict

    def _placement(self, question: Question, choice: Choice, verdict: Feasible) -> Placement:
        others = tuple(as_left(other, choice.left) for other in alternatives(choice, verdict))
        if choice.placed:
            plan = from_choice(
                choice,
                question.request,
                catalog=self._catalog,
                inputs_hash=question.inputs_hash,
                planned_at=moment(question, now_iso=self._now_iso()),
                unverified=question.unverified,
            )
            plan = told(replace(plan, left=choice.left, correction_mib=question.correction_mib))
            return Placement(plan, False, Reason.PLANNED, "", others, question.token)
        reason, message = self._why_not(question, choice, verdict)
        return Placement(None, choice.fit is not None, reason, message, others, question.token)

    def _why_not(self, question: Question, choice: Choice, verdict: Feasible) -> tuple[Reason, str]:
        if choice.fit is not None and choice.barred:
            return Reason.QUOTA_EXCEEDED, explain.barred(choice)
        if choice.fit is not None:
            return Reason.WAITING_FOR_CAPACITY, explain.waiting(choice, question.request)
        unknown = unknown_accelerators(question.request, self._catalog)
        if unknown:
            return Reason.UNKNOWN_ACCELERATOR, explain.unknown_accelerators(unknown)
        if not self._fleet.pools:
            return Reason.NO_POOLS, explain.no_pools()
        request = question.request
        if all(pool_not_listed(request, pool.shape, self._catalog) for pool in self._fleet.pools):
            return Reason.NO_POOLS, (
                f"no known pool is called {' or '.join((request.pools or ())[:4])}: correct hardware.pools "
                "(`gemma-operator pools` lists them), or add such a pool"
            )
        return Reason.NOTHING_FITS, explain.nothing_fits(verdict, question.request)


def _stands(answered: Plan, written: Plan) -> bool:
    """What was answered is written, or something newer is. Two plans of one second are told apart by what they say."""
    if answered.planned_at != written.planned_at:
        return written.planned_at > answered.planned_at
    return _said(answered) == _said(written)


def _said(plan: Plan) -> tuple[object, ...]:
    return plan.inputs_hash, plan.pool, plan.settings, plan.correction_mib
