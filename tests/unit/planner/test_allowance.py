"""What a namespace allows: quotas count pods that are made, limits refuse pods as they are."""

import pytest

from gemma_operator.hardware.namespaces import NamespaceRules, limit_record, quota_record
from gemma_operator.planner.allowance import ANY, Allowances
from unit.planner.builders import GIB, a_demand

GPU = "requests.nvidia.com/gpu"


def a_quota(hard, used=None, *, name="q", namespace="team", **spec):
    return {
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"hard": hard, **spec},
        "status": {"hard": hard, "used": used or {}},
    }


def a_limit_range(*items, name="l", namespace="team"):
    return {"metadata": {"name": name, "namespace": namespace}, "spec": {"limits": list(items)}}


def a_container(**bounds):
    return {"type": "Container", **bounds}


def rules(*objects):
    quotas = [record for obj in objects if "status" in obj and (record := quota_record(obj))]
    limits = [record for obj in objects if "status" not in obj and (record := limit_record(obj))]
    return NamespaceRules(tuple(quotas), tuple(limits))


def allowance(*objects, demand=None, namespace="team", limited=False, first=False):
    found = Allowances(rules(*objects))
    return found.of(
        namespace,
        demand or a_demand(1, cpu=4000, memory=16 * GIB, disk=20 * GIB),
        memory_limited=limited,
        first=first,
    )


def replicas(*objects, **asked):
    return allowance(*objects, **asked).replicas


@pytest.mark.parametrize(
    ("hard", "used", "left"),
    [
        ({GPU: "4"}, {GPU: "1"}, 3),
        ({GPU: "1"}, {GPU: "1"}, 0),
        ({GPU: "1"}, {GPU: "3"}, 0),
        ({"requests.cpu": "10"}, {"requests.cpu": "500m"}, 2),
        ({"cpu": "10"}, {"cpu": "1"}, 2),
        ({"requests.memory": "40Gi"}, {}, 2),
        ({"memory": "16Gi"}, {"memory": "1"}, 0),
        ({"requests.ephemeral-storage": "60Gi"}, {}, 3),
        ({"pods": "5"}, {"pods": "2"}, 3),
        ({"count/pods": "5"}, {"count/pods": "5"}, 0),
        ({GPU: "8", "pods": "2"}, {}, 2),
        ({"requests.nvidia.com/mig-1g.10gb": "0"}, {}, None),
        ({"persistentvolumeclaims": "0"}, {}, None),
        ({GPU: "nonsense"}, {}, None),
    ],
)
def test_a_quota_allows_what_is_left_of_it(hard, used, left):
    assert replicas(a_quota(hard, used)) == left


def test_the_scarcest_of_several_quotas_decides_and_is_named():
    found = allowance(a_quota({GPU: "4"}, name="wide"), a_quota({"pods": "1"}, name="narrow"))
    assert found.replicas == 1
    assert "ResourceQuota narrow allows 1 of pods in namespace team" in found.reason


def test_the_message_says_the_limit_and_never_what_is_used_of_it():
    said = {allowance(a_quota({GPU: "4"}, {GPU: str(used)})).reason for used in (3, 4)}
    assert said == {
        "ResourceQuota q allows 4 of requests.nvidia.com/gpu in namespace team; one more replica takes 1"
    }


def test_another_namespaces_quota_is_not_ours():
    assert allowance(a_quota({GPU: "0"}, namespace="other")) == ANY


@pytest.mark.parametrize(
    ("scope", "counts"),
    [
        ({"scopes": ["BestEffort"]}, False),
        ({"scopes": ["Terminating"]}, False),
        ({"scopes": ["NotTerminating"]}, True),
        ({"scopes": ["NotBestEffort"]}, True),
        (
            {"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "Exists"}]}},
            True,
        ),
        (
            {
                "scopeSelector": {
                    "matchExpressions": [{"scopeName": "BestEffort", "operator": "DoesNotExist"}]
                }
            },
            True,
        ),
    ],
)
def test_a_scope_that_no_engine_has_does_not_count_and_any_other_does(scope, counts):
    assert (replicas(a_quota({GPU: "0"}, **scope)) == 0) is counts


@pytest.mark.parametrize("name", ["cpu", "memory", "ephemeral-storage"])
def test_a_quota_on_a_limit_that_engines_do_not_set_is_told_with_the_remedy(name):
    found = allowance(a_quota({f"limits.{name}": "1000Gi"}))
    assert found.replicas == 0
    assert "LimitRange" in found.reason


def test_a_default_limit_is_what_such_a_quota_counts():
    limits = a_limit_range(a_container(default={"cpu": "8", "memory": "32Gi"}))
    assert replicas(a_quota({"limits.cpu": "20", "limits.memory": "1000Gi"}), limits) == 2


def test_a_memory_that_the_user_gave_is_a_limit_too():
    assert replicas(a_quota({"limits.memory": "40Gi"}), limited=True) == 2


@pytest.mark.parametrize("name", ["count/deployments.apps", "services", "count/serviceaccounts"])
def test_the_first_replica_needs_its_siblings(name):
    quota = a_quota({name: "2"}, {name: "2"})
    assert (replicas(quota, first=True), replicas(quota, first=False)) == (0, None)


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (a_container(max={"memory": "8Gi"}), "allows at most 8.0 GiB of memory, a replica takes 16.0 GiB"),
        (a_container(max={"nvidia.com/gpu": "0"}), "allows at most 0 of nvidia.com/gpu"),
        ({"type": "Pod", "max": {"cpu": "2"}}, "allows at most 2 of cpu, a replica takes 4"),
        (a_container(min={"cpu": "8"}), "asks for at least 8 of cpu, a replica takes 4"),
        (a_container(default={"cpu": "1"}), "limits containers to 1 of cpu, a replica takes 4"),
        (a_container(default={"memory": "1Gi"}), "limits containers to 1.0 GiB of memory"),
        (a_container(default={"cpu": "16"}, max={"cpu": "8"}), "allows at most 8 of cpu"),
        (a_container(maxLimitRequestRatio={"cpu": "4"}), "an engine sets no limit of cpu: give containers"),
        (
            a_container(maxLimitRequestRatio={"cpu": "1500m"}, default={"cpu": "8"}),
            "at most 1.5 times the request: the limit of cpu is 8, a replica takes 4",
        ),
        ({"type": "Pod", "maxLimitRequestRatio": {"memory": "1"}}, "an engine sets no limit of memory"),
    ],
)
def test_a_limit_range_refuses_a_pod_as_it_is(item, words):
    found = allowance(a_limit_range(item))
    assert found.replicas == 0
    assert words in found.reason


@pytest.mark.parametrize(
    "item",
    [
        a_container(max={"memory": "16Gi", "cpu": "4"}),
        a_container(min={"cpu": "100m"}, defaultRequest={"cpu": "1"}),
        a_container(maxLimitRequestRatio={"cpu": "2"}, default={"cpu": "8"}),
        a_container(maxLimitRequestRatio={"nvidia.com/gpu": "1"}),
        {"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}},
    ],
)
def test_a_limit_range_that_it_meets_says_nothing(item):
    assert allowance(a_limit_range(item)) == ANY


def test_a_default_memory_is_nothing_to_who_sets_his_own():
    assert allowance(a_limit_range(a_container(default={"memory": "1Gi"})), limited=True) == ANY
    assert allowance(a_limit_range(a_container(maxLimitRequestRatio={"memory": "1"})), limited=True) == ANY


def test_pods_that_are_still_to_be_made_are_taken_off_and_replaced_ones_given_back():
    found = Allowances(rules(a_quota({GPU: "4"}, {GPU: "1"})))
    demand = a_demand(1)

    def left():
        return found.of("team", demand, memory_limited=False).replicas

    found.take("team", demand, 2)
    assert left() == 1
    found.give_back("team", {"nvidia.com/gpu": 1, "pods": 1})
    assert left() == 2
    found.take_back("team", {"nvidia.com/gpu": 1, "pods": 1})
    assert left() == 1
