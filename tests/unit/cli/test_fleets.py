import argparse
import asyncio
import json
import os

import pytest

from fakes.kubeapi import Fault, KubeApi
from gemma_operator.apiserver.resources import NODES, PODS
from gemma_operator.cli import cluster_objects, fleets
from gemma_operator.errors import UsageError

NODE = {"kind": "Node", "metadata": {"name": "n"}}
POD = {"kind": "Pod", "metadata": {"name": "p", "uid": "u"}, "spec": {"nodeName": "n"}}
POOL = {
    "apiVersion": "gemma-operator.io/v1alpha1",
    "kind": "AcceleratorPool",
    "metadata": {"name": "h100"},
    "spec": {"accelerator": "nvidia-h100-80gb", "acceleratorsPerNode": 8, "nodeSelector": {"pool": "h100"}},
}


def parsed(*words):
    parser = argparse.ArgumentParser()
    fleets.add_arguments(parser)
    return parser.parse_args(words)


def test_nodes_pools_and_pods_make_a_fleet():
    fleet = fleets.of_objects([NODE, POD, POOL])
    assert ([n.name for n in fleet.nodes], [p.name for p in fleet.declared], [p.uid for p in fleet.pods]) == (
        ["n"],
        ["h100"],
        ["u"],
    )


def test_an_object_that_stands_in_two_files_counts_once():
    assert len(fleets.of_objects([NODE, NODE, POD, POD]).nodes) == 1


def test_other_kinds_are_passed_over_and_named():
    fleet = fleets.of_objects([{"kind": "Service"}, {"kind": "Service"}, {"kind": "ResourceSlice"}])
    assert fleets.notes(fleet) == [
        "note: 1 of kind ResourceSlice passed over",
        "note: 2 of kind Service passed over",
    ]


def test_a_pool_that_the_server_would_refuse_is_refused_with_name_and_field():
    wrong = {**POOL, "spec": {**POOL["spec"], "acceleratorsPerNode": 17}}
    with pytest.raises(UsageError, match=r"AcceleratorPool h100: spec\.acceleratorsPerNode"):
        fleets.of_objects([wrong])


def test_files_are_read_together(tmp_path):
    for name, obj in (("nodes", NODE), ("pods", POD)):
        (tmp_path / f"{name}.json").write_text(json.dumps(obj))
    words = ["--nodes", str(tmp_path / "nodes.json"), "--nodes", str(tmp_path / "pods.json")]
    fleet = fleets.from_arguments(parsed(*words))
    assert (len(fleet.nodes), len(fleet.pods)) == (1, 1)


def test_files_and_a_context_exclude_each_other(capsys):
    with pytest.raises(SystemExit):
        parsed("--nodes", "x", "--context", "y")
    assert "not allowed with" in capsys.readouterr().err


def test_a_catalog_that_is_not_there_is_bad_input(tmp_path):
    with pytest.raises(UsageError, match="nowhere"):
        fleets.catalog(parsed("--catalog", str(tmp_path / "nowhere")))


def test_files_and_a_cluster_are_not_read_both():
    with pytest.raises(UsageError, match="--kubeconfig names a cluster: leave one out"):
        fleets.from_arguments(parsed("--nodes", "nodes.yaml", "--kubeconfig", "config"))


class TestCluster:
    @pytest.fixture
    def kubeconfig(self, tmp_path, monkeypatch):
        def write(url):
            path = tmp_path / "config"
            config = {
                "clusters": [{"name": "c", "cluster": {"server": url}}],
                "users": [{"name": "u", "user": {"token": "secret"}}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "x",
            }
            path.write_text(json.dumps(config))
            monkeypatch.setenv("KUBECONFIG", str(path))

        return write

    async def read(self, kubeconfig, *faults, context=None):
        async with KubeApi().serve() as api:
            api.put(NODES, "n")
            api.put(PODS, "p", namespace="team", spec={"nodeName": "n"})
            api.faults += faults
            kubeconfig(api.url)
            return await asyncio.to_thread(cluster_objects.read, context)

    async def test_the_current_context_is_read(self, kubeconfig):
        assert {obj["kind"] for obj in await self.read(kubeconfig)} == {"Node", "Pod"}

    async def test_a_kubeconfig_that_is_named_goes_before_the_environments(self, kubeconfig, monkeypatch):
        async with KubeApi().serve() as api:
            api.put(NODES, "n")
            kubeconfig(api.url)
            named = os.environ["KUBECONFIG"]
            monkeypatch.setenv("KUBECONFIG", "/nowhere")
            found = await asyncio.to_thread(fleets.from_arguments, parsed("--kubeconfig", named))
            assert [node.name for node in found.nodes] == ["n"]

    async def test_of_deployments_only_ours_are_read(self, kubeconfig):
        async with KubeApi().serve() as api:
            kubeconfig(api.url)
            await asyncio.to_thread(cluster_objects.read, None)
            asked = [query for _, path, query in api.requests if path.endswith("/deployments")]
        assert len(asked) == 1
        assert "managed-by%3Dgemma-operator" in asked[0]

    async def test_a_cluster_without_our_kinds_has_no_declared_pools(self, kubeconfig):
        found = await self.read(kubeconfig, Fault(404, path_part="acceleratorpools"))
        assert {obj["kind"] for obj in found} == {"Node", "Pod"}

    async def test_a_right_that_is_missing_is_bad_input(self, kubeconfig):
        with pytest.raises(UsageError, match=r"cannot read the fleet of the current context.*pods"):
            await self.read(kubeconfig, Fault(403, times=9, path_part="pods"))

    async def test_an_unknown_context_is_bad_input(self, kubeconfig):
        with pytest.raises(UsageError, match="nowhere"):
            await self.read(kubeconfig, context="nowhere")

    def test_without_a_kubeconfig_it_is_bad_input(self, tmp_path, monkeypatch):
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
        with pytest.raises(UsageError, match="no kubeconfig"):
            cluster_objects.read(None)


def test_what_may_bring_or_offer_nodes_and_what_namespaces_allow_is_read_too():
    device = {"attributes": {"type": {"string": "gpu"}}, "capacity": {}}
    fleet = fleets.of_objects(
        [
            {
                "apiVersion": "resource.k8s.io/v1",
                "kind": "ResourceSlice",
                "metadata": {"name": "s"},
                "spec": {"driver": "gpu.nvidia.com", "nodeName": "n", "devices": [device]},
            },
            {"apiVersion": "karpenter.sh/v1", "kind": "NodePool", "metadata": {"name": "k"}},
            {"apiVersion": "hypershift.openshift.io/v1beta1", "kind": "NodePool", "metadata": {"name": "h"}},
            {"apiVersion": "cloud.google.com/v1", "kind": "ComputeClass", "metadata": {"name": "c"}},
            {
                "apiVersion": "v1",
                "kind": "ResourceQuota",
                "metadata": {"name": "q"},
                "spec": {"hard": {"pods": "1"}},
            },
            {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "l"}, "spec": {"limits": []}},
        ]
    )
    assert [len(found) for found in (fleet.slices, fleet.nodepools, fleet.computeclasses)] == [1, 1, 1]
    assert [node.name for node in fleet.nodes] == ["n"]  # named by its slice alone
    assert [quota.name for quota in fleet.rules.quotas] == ["q"]
    assert fleets.notes(fleet) == ["note: 1 of kind NodePool passed over"]


@pytest.mark.parametrize(
    ("kind", "changed"),
    [
        ("Node", {"spec": {"taints": [5]}}),
        ("Node", {"status": {"allocatable": [1]}}),
        (
            "NodePool",
            {"apiVersion": "karpenter.sh/v1", "spec": {"template": {"spec": {"requirements": [5]}}}},
        ),
        ("ResourceQuota", {"apiVersion": "v1", "spec": {"hard": 5}}),
        ("LimitRange", {"apiVersion": "v1", "spec": {"limits": ["x"]}}),
    ],
)
def test_an_object_that_was_mangled_by_hand_is_named(tmp_path, kind, changed):
    mangled = {"kind": kind, "metadata": {"name": "odd"}, **changed}
    path = tmp_path / "nodes.json"
    path.write_text(json.dumps({"kind": "List", "items": [NODE, mangled, POD]}))
    with pytest.raises(UsageError, match=f"--nodes: {kind} odd is not as an API server has it"):
        fleets.from_arguments(parsed("--nodes", str(path)))


def test_what_each_object_alone_does_not_explain_keeps_its_traceback(tmp_path, monkeypatch):
    path = tmp_path / "nodes.json"
    path.write_text(json.dumps(NODE))
    monkeypatch.setattr(fleets, "_mangled", lambda obj: False)
    monkeypatch.setattr(fleets, "node_record", lambda obj: 1 + "")
    with pytest.raises(TypeError):
        fleets.from_arguments(parsed("--nodes", str(path)))
