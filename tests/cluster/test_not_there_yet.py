"""Fields that have no part behind them yet, on a real API server: accepted, answered at once, and nothing is made."""

from __future__ import annotations

import pytest

from cluster.teams import CHILDREN, Team, a_deployment, condition, says

pytestmark = pytest.mark.cluster

_ONE = {"variants": ["E4B"], "precisions": ["bf16"]}
_ADAPTER = {"name": "sql", "source": {"persistentVolumeClaim": {"claimName": "sql"}}}
_SPECS = {
    "model.adapters": {"model": {**_ONE, "adapters": [_ADAPTER]}},
    "model.source.image": {"model": {**_ONE, "source": {"image": {"reference": "r.example.com/tune:1"}}}},
    "model.source.objectStore": {"model": {**_ONE, "source": {"objectStore": {"uri": "gs://tunes/sql"}}}},
    "access.gateway": {"access": {"gateway": {"parentRefs": [{"name": "shared"}]}}},
    "autoscaling": {"autoscaling": {"maxReplicas": 2}},
}


def test_what_has_no_part_yet_is_a_condition_that_says_what_to_take_out(team: Team, operator):
    hardware = {"pools": [team.pool("l4", nodes=1)]}
    names = {field: f"asks-{number}" for number, field in enumerate(_SPECS)}
    for field, name in names.items():
        team.apply(a_deployment(name, hardware=hardware, **_SPECS[field]))
    for field, name in names.items():
        said = team.sees("GemmaDeployment", name, says("Stalled", "True", "NotImplemented"))
        for kind in ("Ready", "Planned", "Stalled"):
            assert condition(said, kind)["message"].endswith(f"{field}; remove it from the spec")
        assert [kind for kind in CHILDREN if team.find(kind, name)] == []
    logged = [line for line in operator.log.splitlines() if team.namespace in line]
    assert [line for line in logged if "unexpected" in line] == [], "a condition, and never an exception"
    team.change(names["access.gateway"], {"access": None})
    team.ready(names["access.gateway"])
