"""Edits that meet the operator's own writes: none is lost between what was read and what is written."""

from __future__ import annotations

import contextlib
import threading

import pytest

from cluster.teams import Team, a_deployment
from cluster.test_lies import at_rest
from cluster.waiting import until
from gemma_operator.errors import Conflict

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("operator")]

_EDITS = 25


class Writer(threading.Thread):
    """Edits the spec as often as it sees that the object was written: by the operator, or by the other one."""

    def __init__(self, team: Team, label: str) -> None:
        super().__init__(daemon=True)
        self._team, self._label, self.done = team, label, 0

    def run(self) -> None:
        """Until it has edited so many times."""
        seen = ""
        while self.done < _EDITS:
            obj = self._team.get("GemmaDeployment", "chat")
            if obj["metadata"]["resourceVersion"] == seen:
                continue
            seen = obj["metadata"]["resourceVersion"]
            length = obj["spec"]["serving"]["contextLength"] + 8
            told = {self._label: str(length)}
            with contextlib.suppress(Conflict):  # the others wrote too often meanwhile: a user tries again
                self._team.change("chat", {"serving": {"contextLength": length}, "pod": {"labels": told}})
                self.done += 1


def test_fifty_edits_of_two_writers_at_each_of_our_writes_end_in_the_last_of_them(team):  # FR-09
    """nolar/kopf#1178: a change between a snapshot and a patch never reached its handler."""
    pool = team.pool("l4", nodes=3)
    team.apply(a_deployment("chat", hardware={"pools": [pool]}, serving={"contextLength": 8192}))
    team.ready("chat")
    writers = [Writer(team, "one"), Writer(team, "two")]
    for writer in writers:
        writer.start()
    until(lambda: all(writer.done == _EDITS for writer in writers), what="all edits", within_seconds=120)
    for writer in writers:
        writer.join()
    last = team.get("GemmaDeployment", "chat")
    ready = team.ready("chat", within_seconds=120)
    assert ready["metadata"]["generation"] == last["metadata"]["generation"], "the operator edits no spec"
    assert ready["status"]["observedGeneration"] == last["metadata"]["generation"]
    template = team.get("Deployment", "chat")["spec"]["template"]
    arguments = template["spec"]["containers"][0]["args"]
    wanted = last["spec"]["serving"]["contextLength"]
    assert arguments[arguments.index("--max-model-len") + 1] == str(wanted)
    for label, value in last["spec"]["pod"]["labels"].items():
        assert template["metadata"]["labels"][label] == value
    at_rest(team)
