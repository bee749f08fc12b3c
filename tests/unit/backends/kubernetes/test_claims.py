"""What a PersistentVolumeClaim allows."""

from dataclasses import replace

import pytest

from gemma_operator.backends.kubernetes.claims import (
    ClaimRecord,
    Use,
    claim_names,
    claims_of,
    cut_claim,
    one_node,
    trouble,
)
from snapshots import a_snapshot, a_spec

GIB = 1024**3
CACHE = {"weights": {"cache": {"type": "PersistentVolumeClaim", "claimName": "w"}}}
SOURCE = {
    "model": {
        "variants": ["E4B"],
        "precisions": ["bf16"],
        "source": {"persistentVolumeClaim": {"claimName": "w", "path": "tuned"}},
    }
}


def a_claim(*modes, **changes):
    record = ClaimRecord(
        "team-a", "w", modes or ("ReadWriteMany",), "Bound", 100 * GIB, block=False, terminating=False
    )
    return replace(record, **changes)


def found(spec, claim, *, needed_bytes=0):
    return trouble(a_spec(**spec).spec, {claim.name: claim} if claim else {}, needed_bytes=needed_bytes)


def test_a_bound_claim_has_the_modes_and_the_size_of_its_volume():
    claim = cut_claim(
        {
            "metadata": {"name": "w", "namespace": "team-a"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
            "status": {"phase": "Bound", "accessModes": ["ReadWriteMany"], "capacity": {"storage": "20Gi"}},
        }
    )
    assert (claim.access_modes, claim.size_bytes, claim.phase) == (("ReadWriteMany",), 20 * GIB, "Bound")


def test_one_that_waits_for_its_first_pod_has_what_it_asked_for():
    claim = cut_claim(
        {
            "metadata": {"name": "w", "namespace": "team-a"},
            "spec": {"accessModes": ["ReadWriteOncePod"], "resources": {"requests": {"storage": "1Gi"}}},
        }
    )
    assert (claim.access_modes, claim.size_bytes, claim.phase) == (("ReadWriteOncePod",), GIB, "Pending")


@pytest.mark.parametrize(
    ("modes", "cache", "source"),
    [
        (("ReadWriteOnce",), True, True),
        (("ReadWriteOncePod",), True, True),
        (("ReadWriteMany",), False, False),
        (("ReadWriteOnce", "ReadOnlyMany"), True, False),
    ],
)
def test_who_may_mount_it_depends_on_whether_it_is_written(modes, cache, source):
    claim = a_claim(*modes)
    assert (one_node(claim, Use.CACHE), one_node(claim, Use.SOURCE)) == (cache, source)


def test_a_spec_names_its_claims_and_so_does_one_that_cannot_be_read():
    assert claims_of(a_spec(**CACHE).spec) == (("w", Use.CACHE),)
    assert claims_of(a_spec(**SOURCE).spec) == (("w", Use.SOURCE),)
    assert claims_of(a_spec().spec) == ()
    assert list(claim_names({**CACHE, "replicas": "many"})) == list(claim_names(SOURCE)) == ["w"]


def test_a_missing_claim_may_yet_come():
    missing = found(CACHE, None)
    assert (missing.reason, missing.final) == ("ClaimMissing", False)
    assert "no PersistentVolumeClaim w" in missing.message


@pytest.mark.parametrize(
    ("claim", "words"),
    [
        (a_claim("ReadWriteOncePod"), "is ReadWriteOncePod, which one pod may mount, and replicas is 2"),
        (a_claim("ReadWriteOnce"), "is ReadWriteOnce, which one node may mount, and replicas is 2"),
        (a_claim("ReadOnlyMany"), "weights are to be written to it"),
        (a_claim(phase="Lost"), "has lost its volume"),
        (a_claim(block=True), "volumeMode Block"),
        (a_claim(terminating=True), "is being deleted"),
    ],
)
def test_an_unsuitable_claim_is_named_with_what_to_do(claim, words):
    unsuitable = found({**CACHE, "replicas": 2}, claim)
    assert (unsuitable.reason, unsuitable.final) == ("ClaimUnsuitable", True)
    assert unsuitable.message.startswith("claim w ")
    assert words in unsuitable.message
    assert len(unsuitable.message) <= 512


def test_one_replica_may_have_a_claim_of_its_own():
    assert found(CACHE, a_claim("ReadWriteOncePod")) is None


def test_many_may_read_what_many_may_mount():
    assert found({**SOURCE, "replicas": 4}, a_claim("ReadOnlyMany")) is None


def test_a_cache_must_hold_the_weights():
    assert found(CACHE, a_claim(), needed_bytes=100 * GIB) is None
    assert (
        "holds 100.0 GiB and the weights are 110.0 GiB"
        in found(CACHE, a_claim(), needed_bytes=110 * GIB).message
    )


def test_a_source_holds_what_it_holds():
    assert found(SOURCE, a_claim(), needed_bytes=110 * GIB) is None


@pytest.mark.parametrize(("mode", "forbids"), [("ReadWriteOnce", True), ("ReadWriteMany", False)])
def test_a_volume_of_one_node_forbids_a_surge(mode, forbids):
    assert a_snapshot(spec=CACHE, claims={"w": a_claim(mode)}).claims_forbid_surge is forbids


def test_who_names_no_claim_may_surge():
    assert not a_snapshot().claims_forbid_surge
