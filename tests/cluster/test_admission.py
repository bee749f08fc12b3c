"""What the real API server lets in and what it refuses, with the words that a user reads.

Every CEL rule is refused once and its neighbour accepted once; a rule that no row proves fails the test.
"""

import json
import ssl
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from gemma_operator.api import crd, owned
from gemma_operator.api.names import API_VERSION, DEPLOYMENT_PLURAL, PLURALS
from manifest_tables import Case, accepted_cases, bad_cases, samples

pytestmark = pytest.mark.cluster

_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_APPLY = {"Content-Type": "application/apply-patch+yaml"}


@pytest.fixture(scope="module")
def server(api_server) -> Iterator[httpx.Client]:
    """A client of the API server, which serves both kinds."""
    trust = ssl.create_default_context(cafile=str(api_server.ca_file))
    with httpx.Client(
        base_url=api_server.url,
        headers={"Authorization": f"Bearer {api_server.token}"},
        verify=trust,
        timeout=30,
    ) as client:
        for definition in crd.all_crds():
            name = definition["metadata"]["name"]
            answer = client.patch(
                f"{_CRDS}/{name}",
                params={"fieldManager": "test-admission", "force": "true"},
                headers=_APPLY,
                content=json.dumps(definition),
            )
            assert answer.is_success, answer.text
            _wait_until_established(client, name)
            _wait_until_served(client, f"/apis/{API_VERSION}/{definition['spec']['names']['plural']}")
        yield client


@pytest.mark.parametrize("case", bad_cases(), ids=str)
def test_a_bad_manifest_is_refused_with_its_field_and_the_remedy(server: httpx.Client, case: Case):
    answer = _create(server, case.manifest, dry_run=True)

    assert answer.status_code in {400, 422}, answer.text
    message = answer.json()["message"]
    assert case.field in message
    assert case.remedy in message


@pytest.mark.parametrize("case", [*accepted_cases(), *samples()], ids=str)
def test_a_good_manifest_is_accepted(server: httpx.Client, case: Case):
    answer = _create(server, case.manifest, dry_run=True)

    assert answer.status_code == 201, answer.text


def test_server_and_command_line_agree_on_every_spelling_of_an_argument(server: httpx.Client):
    spelled = [
        item
        for flag in owned.OWNED_FLAGS
        for item in (
            f"--{flag}",
            f"--no-{flag}=x",
            f"--{flag.replace('-', '_')}.k",
            f"--{flag[:-1]}",
            f"--{flag}x",
        )
    ]
    odd = [
        "--",
        "--=",
        "--.",
        "--no-",
        "--no",
        "--n",
        "-",
        "-1",
        "-x",
        "-O3",
        "model",
        "--MODEL",
        "---model",
        "--é",
    ]
    free = [
        "--seed",
        "--enforce-eager",
        "--max-logprobs",
        "--lora-dtype",
        "--" + "x" * 40,
        "--no-" + "m" * 40,
    ]

    for item in [*spelled, *odd, *free]:
        manifest = _deployment("spelled", serving={"engine": {"extraArgs": [item]}})
        refused = _create(server, manifest, dry_run=True).status_code == 422
        assert refused == owned.is_owned_argument(item), item


def test_the_largest_object_that_the_schema_allows_is_within_the_cost_limit_of_rules(server: httpx.Client):
    keys = [f"{'p' * 240}.io/{'k' * 60}{index}" for index in range(32)]
    manifest = _deployment(
        "largest",
        model={
            "variants": ["31B"],
            "adapters": [
                {
                    "name": f"{'a' * 250}{index}",
                    "source": {
                        "objectStore": {
                            "uri": f"gs://bucket/{'a' * 1000}",
                            "endpoint": f"http://{'a' * 400}.svc",
                        }
                    },
                }
                for index in range(16)
            ],
        },
        serving={
            "engine": {
                "extraArgs": [f"--{'x_' * 2047}", f"--{'-no' * 1364}="] * 32,
                "env": [{"name": f"A{index}{'X' * 120}", "value": "v" * 4096} for index in range(64)],
            }
        },
        hardware={"nodeSelector": dict.fromkeys(keys, "v" * 63)},
        pod={"labels": dict.fromkeys(keys, "v" * 63), "annotations": dict.fromkeys(keys, "v" * 4096)},
    )

    answer = _create(server, manifest, dry_run=True)

    assert answer.status_code == 201, answer.text


def test_the_estimated_cost_of_rules_leaves_room_for_more_flags_and_older_servers(server: httpx.Client):
    for definition in crd.all_crds():
        answer = server.patch(
            f"{_CRDS}/{definition['metadata']['name']}",
            params={"fieldManager": "test-admission", "force": "true", "dryRun": "All"},
            headers=_APPLY,
            content=json.dumps(_with_lists_of(definition, times=4)),
        )
        assert answer.is_success, answer.text


def test_every_rule_is_proved_by_a_refusal(server: httpx.Client):
    said = "".join(
        _create(server, case.manifest, dry_run=True).text for case in bad_cases() if case.by == "rule"
    )
    messages = {message for definition in crd.all_crds() for message in _rule_messages(definition)}
    changes = {message for message in messages if "cannot be changed" in message}

    assert {message for message in messages - changes if json.dumps(message)[1:-1] not in said} == set()


@pytest.mark.parametrize(
    ("field", "value"),
    [("project", "another-project"), ("region", "europe-west4")],
    ids=["project", "region"],
)
def test_where_vertex_runs_cannot_be_changed(server: httpx.Client, field: str, value: str):
    manifest = _deployment(
        f"moves-{field}",
        placement={"backends": ["Vertex"]},
        vertex={"project": "my-project", "region": "us-central1"},
    )
    with _created(server, manifest) as path:
        answer = _merge(server, path, {"spec": {"vertex": {field: value}}})

        assert answer.status_code == 422
        assert f"spec.vertex.{field}" in answer.json()["message"]
        assert "make a new GemmaDeployment" in answer.json()["message"]


def test_the_vertex_block_may_be_removed(server: httpx.Client):
    manifest = _deployment(
        "leaves-vertex",
        placement={"backends": ["Kubernetes", "Vertex"]},
        vertex={"project": "my-project", "region": "us-central1"},
    )
    with _created(server, manifest) as path:
        answer = _merge(server, path, {"spec": {"vertex": None, "placement": {"backends": ["Kubernetes"]}}})

        assert answer.status_code == 200, answer.text


def test_only_three_defaults_are_stored(server: httpx.Client):
    stored = _create(server, _deployment("smallest"), dry_run=True).json()

    assert stored["spec"] == {"replicas": 1, "suspend": False}
    assert stored["status"] == {"observedGeneration": -1}


def test_a_null_is_pruned_as_the_command_line_does(server: httpx.Client):
    nulls = {"access": None, "replicas": None, "model": {"source": None, "variants": None}, "serving": None}

    stored = _create(server, _deployment("nulls", **nulls), dry_run=True).json()

    assert stored["spec"] == {"model": {}, "replicas": 1, "suspend": False}


def test_nested_blocks_get_no_defaults(server: httpx.Client):
    spec = {
        "model": {},
        "serving": {"engine": {}},
        "weights": {"cache": {}},
        "autoscaling": {"maxReplicas": 2},
    }

    stored = _create(server, _deployment("nested", **spec), dry_run=True).json()

    assert stored["spec"] == {**spec, "replicas": 1, "suspend": False}


def test_a_deployment_scales_through_the_scale_subresource(server: httpx.Client):
    with _created(server, _deployment("scaled")) as path:
        assert _merge(server, f"{path}/scale", {"spec": {"replicas": 3}}).status_code == 200
        assert server.get(path).json()["spec"]["replicas"] == 3
        assert _merge(server, f"{path}/scale", {"spec": {"replicas": -1}}).status_code == 422


def test_lists_merge_as_documented(server: httpx.Client):
    with _created(
        server, _deployment("merged", serving={"engine": {"env": [{"name": "A", "value": "1"}]}})
    ) as path:
        answer = server.patch(
            path,
            params={"fieldManager": "somebody-else"},
            headers=_APPLY,
            content=json.dumps(
                _deployment("merged", serving={"engine": {"env": [{"name": "B"}]}, "modalities": ["video"]})
            ),
        )

        assert answer.status_code == 200, answer.text
        assert [item["name"] for item in answer.json()["spec"]["serving"]["engine"]["env"]] == ["A", "B"]


def test_kubectl_get_shows_the_columns_of_the_api(server: httpx.Client):
    table = server.get(
        f"/apis/{API_VERSION}/{DEPLOYMENT_PLURAL}",
        headers={"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"},
    ).json()

    columns = [(column["name"].upper(), column["priority"]) for column in table["columnDefinitions"]]
    assert columns == [
        ("NAME", 0),
        ("VARIANT", 0),
        ("POOL", 0),
        ("GPUS", 0),
        ("READY", 0),
        ("REASON", 0),
        ("ENDPOINT", 1),
        ("AGE", 0),
    ]


def _deployment(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": "GemmaDeployment",
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    }


class _created:  # noqa: N801 - reads as a word in `with`
    """An object that is really stored, and gone at the end."""

    def __init__(self, server: httpx.Client, manifest: dict[str, Any]) -> None:
        self.server = server
        self.manifest = manifest
        self.path = f"{_collection(manifest)}/{manifest['metadata']['name']}"

    def __enter__(self) -> str:
        answer = _create(self.server, self.manifest, dry_run=False)
        assert answer.status_code == 201, answer.text
        return self.path

    def __exit__(self, *_: object) -> None:
        assert self.server.delete(self.path).is_success


def _create(server: httpx.Client, manifest: dict[str, Any], *, dry_run: bool) -> httpx.Response:
    parameters = {"fieldValidation": "Strict"} | ({"dryRun": "All"} if dry_run else {})
    return server.post(_collection(manifest), params=parameters, json=manifest)


def _merge(server: httpx.Client, path: str, patch: dict[str, Any]) -> httpx.Response:
    return server.patch(
        path, headers={"Content-Type": "application/merge-patch+json"}, content=json.dumps(patch)
    )


def _collection(manifest: dict[str, Any]) -> str:
    plural = PLURALS[manifest["kind"]]
    if plural == DEPLOYMENT_PLURAL:
        return f"/apis/{API_VERSION}/namespaces/{manifest['metadata'].get('namespace', 'default')}/{plural}"
    return f"/apis/{API_VERSION}/{plural}"


def _with_lists_of(node: Any, *, times: int) -> Any:
    """The same schema with room for so many times the items."""
    if isinstance(node, dict):
        return {
            key: value * times
            if key in {"maxItems", "maxProperties"} and isinstance(value, int)
            else _with_lists_of(value, times=times)
            for key, value in node.items()
        }
    return [_with_lists_of(item, times=times) for item in node] if isinstance(node, list) else node


def _rule_messages(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        yield from (rule["message"] for rule in node.get("x-kubernetes-validations", ()))
        for child in node.values():
            yield from _rule_messages(child)
    elif isinstance(node, list):
        for child in node:
            yield from _rule_messages(child)


def _wait_until_established(client: httpx.Client, name: str) -> None:
    parameters = {"watch": "true", "fieldSelector": f"metadata.name={name}", "timeoutSeconds": "30"}
    with client.stream("GET", _CRDS, params=parameters) as events:
        for line in events.iter_lines():
            conditions = (json.loads(line)["object"].get("status") or {}).get("conditions") or ()
            if any(item["type"] == "Established" and item["status"] == "True" for item in conditions):
                return
    pytest.fail(f"{name} was not established within 30 s")


def _wait_until_served(client: httpx.Client, collection: str) -> None:
    """Established is said a moment before the handler (of this very schema) answers."""
    deadline = time.monotonic() + 30
    while client.get(collection).status_code != 200:
        assert time.monotonic() < deadline, f"{collection} is not served"
