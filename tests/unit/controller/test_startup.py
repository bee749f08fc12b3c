"""What is wrong with the cluster is said in one line before anything starts."""

from __future__ import annotations

import pytest

from fakes.kubeapi import Fault
from gemma_operator.apiserver.resources import CUSTOM_RESOURCE_DEFINITIONS
from gemma_operator.controller import startup
from gemma_operator.controller.startup import CannotStart
from gemma_operator.errors import Unreachable


async def test_a_cluster_that_is_ready_is_only_read(api, client):
    await startup.check(client)
    assert {method for method, _, _ in api.requests} == {"GET"}


async def test_missing_crds_are_named_with_the_command_that_installs_them(api, client):
    api.faults.append(Fault(404, path_part="/apis/gemma-operator.io/"))
    with pytest.raises(
        CannotStart, match=r"gemmadeployments\.gemma-operator\.io and acceler.*gemma-operator crd"
    ):
        await startup.check(client)


async def test_every_missing_right_is_named_at_once(api, client):
    api.faults.append(Fault(403, times=99, path_part="/pods", message="no"))
    api.faults.append(Fault(403, times=99, path_part="/nodes", message="no"))
    with pytest.raises(CannotStart, match=r"(?s)list nodes.*list pods.*ClusterRole") as caught:
        await startup.check(client)
    assert "services" not in str(caught.value)


async def test_a_lease_that_may_not_be_read_is_a_missing_right_too(api, client):
    api.faults.append(Fault(403, times=99, path_part="/leases/", message="no"))
    await startup.check(client)
    with pytest.raises(CannotStart, match=r"get leases\.coordination\.k8s\.io gemma-system/gemma-operator"):
        await startup.check(client, lease=("gemma-system", "gemma-operator"))


async def test_a_lease_that_is_not_there_yet_is_no_problem(client):
    await startup.check(client, lease=("gemma-system", "gemma-operator"))


async def test_refused_credentials_are_said(api, client):
    api.token = "another"
    with pytest.raises(CannotStart, match="does not accept our credentials"):
        await startup.check(client)


async def test_a_server_that_is_away_is_not_blamed_on_the_cluster(api, client):
    await api.close()
    with pytest.raises(Unreachable):
        await startup.check(client)


async def test_a_crd_that_may_not_be_read_stops_nothing(api, client):
    api.faults.append(Fault(403, path_part="customresourcedefinitions"))
    assert await startup.served_crd(client) is None
    api.put(CUSTOM_RESOURCE_DEFINITIONS, "gemmadeployments.gemma-operator.io", spec={"group": "g"})
    assert (await startup.served_crd(client))["spec"] == {"group": "g"}
