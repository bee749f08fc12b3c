"""Why Karpenter brings no node, in the cloud's own words."""

import pytest

from gemma_operator.hardware.nodeclaims import nodeclaim_record, trouble_of


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
    assert trouble_of("gpu", claims) == "Launched failed with X: a"
    assert trouble_of("none", claims) == ""


def test_no_secret_leaves_with_a_message():
    record = nodeclaim_record(
        a_claim(Launched=("False", "X", "https://x/y?X-Amz-Signature=abcdef0123456789"))
    )
    assert "abcdef0123456789" not in record.trouble
