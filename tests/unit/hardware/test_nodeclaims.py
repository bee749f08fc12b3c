"""Why Karpenter brings no node, in the cloud's own words."""

import pytest

from gemma_operator.hardware.nodeclaims import nodeclaim_record, words_of


def a_claim(name="c", *, pool="gpu", **conditions):
    said = [
        {"type": kind, "status": status, "reason": reason, "message": message}
        for kind, (status, reason, message) in conditions.items()
    ]
    labels = {"karpenter.sh/nodepool": pool} if pool else {}
    return {"metadata": {"name": name, "labels": labels}, "status": {"conditions": said}}


QUOTA = ("False", "LaunchFailed", "you have requested more vCPU capacity than your quota")
WAITS = ("Unknown", "AwaitingReconciliation", "object is awaiting reconciliation")


@pytest.mark.parametrize(
    ("conditions", "trouble"),
    [
        ({"Launched": QUOTA}, f"Launched failed with LaunchFailed: {QUOTA[2]}"),
        ({"Launched": WAITS, "Registered": WAITS}, ""),
        (
            {"Launched": ("True", "Launched", ""), "Registered": ("False", "NodeNotFound", "no node")},
            "Registered failed with NodeNotFound: no node",
        ),
        (
            {"Registered": ("Unknown", "NodeNotFound", "x"), "Launched": QUOTA},
            f"Launched failed with LaunchFailed: {QUOTA[2]}",
        ),
        ({"Drifted": ("False", "Whatever", "x")}, ""),
        ({}, ""),
    ],
)
def test_the_first_step_that_failed_is_the_trouble(conditions, trouble):
    assert nodeclaim_record(a_claim(**conditions)).trouble == trouble


def test_a_claim_of_no_nodepool_is_nobodys():
    assert nodeclaim_record(a_claim(pool="")) is None


def test_of_several_the_first_by_name_speaks_for_its_own_nodepool():
    claims = [
        nodeclaim_record(a_claim(name, pool=pool, Launched=("False", "X", name)))
        for name, pool in (("b", "gpu"), ("a", "gpu"), ("0", "other"))
    ]
    assert words_of("gpu", claims) == "its node does not come: Launched failed with X: a"
    assert words_of("none", claims) == ""


@pytest.mark.parametrize(
    ("conditions", "words"),
    [
        ({}, "NodePool gpu is bringing a node: NodeClaim c is not launched yet"),
        (
            {"Launched": ("True", "Launched", "")},
            "NodePool gpu is bringing a node: NodeClaim c is not registered yet",
        ),
        ({step: ("True", step, "") for step in ("Launched", "Registered", "Initialized")}, ""),
    ],
)
def test_a_claim_that_goes_on_is_a_node_on_its_way_until_it_is_there(conditions, words):
    assert words_of("gpu", [nodeclaim_record(a_claim("c", **conditions))]) == words


def test_no_secret_leaves_with_a_message():
    record = nodeclaim_record(
        a_claim(Launched=("False", "X", "https://x/y?X-Amz-Signature=abcdef0123456789"))
    )
    assert "abcdef0123456789" not in record.trouble
