"""An engine is one file and one catalog entry: a second one is planned, rendered and probed."""

from dataclasses import replace
from pathlib import Path

import pytest

from gemma_operator.api.parse import parse_deployment
from gemma_operator.catalog.loader import load
from gemma_operator.controller.policies import decide
from gemma_operator.engines.base import Engine
from gemma_operator.planner.choice import choose, rank
from gemma_operator.planner.feasible import feasible
from gemma_operator.planner.plan import from_annotation, from_choice, from_status, to_annotation, to_status
from gemma_operator.planner.request import from_spec
from gemma_operator.planner.room import Room
from gemma_operator.probing.answers import judge
from gemma_operator.probing.exposition import sample
from gemma_operator.probing.facts import FailureKind
from snapshots import NOW, a_placement, a_snapshot
from unit.engines.stand_in import StandIn
from unit.planner.shapes import a_pool

STAND_IN: Engine = StandIn()
CATALOG = load(Path(__file__).parents[2] / "data" / "stand-in")
H100 = a_pool("nvidia-h100-80gb", gpus=2)
SPEC = {"model": {"variants": ["E4B"]}, "serving": {"contextLength": 16384}}


def planned():
    deployment = parse_deployment(
        {
            "apiVersion": "gemma-operator.io/v1alpha1",
            "kind": "GemmaDeployment",
            "metadata": {"name": "chat", "namespace": "team-a", "uid": "uid-of-chat"},
            "spec": SPEC,
        }
    )
    request = from_spec("team-a", deployment.spec, default_engine="STANDIN", default_version="1.4")
    verdict = feasible(request, [H100], CATALOG)
    choice = choose(rank(verdict, request=request, catalog=CATALOG), replicas=1, room=lambda fit: Room(1, 1))
    inputs = a_snapshot().inputs_hash
    plan = from_choice(
        choice, request, catalog=CATALOG, inputs_hash=inputs, planned_at="2026-11-25T09:00:00Z"
    )
    return request, verdict, plan


def manifests():
    _, _, plan = planned()
    snapshot = a_snapshot(spec=SPEC)
    answered = replace(snapshot, placement=a_placement(plan, token=snapshot.ask_token))
    decision = decide(answered, now=NOW, engine=STAND_IN)
    return {manifest["kind"]: manifest for manifest in decision.apply}


def container():
    (found,) = manifests()["Deployment"]["spec"]["template"]["spec"]["containers"]
    return found


def test_it_is_planned_by_its_own_catalog_entry():
    _, _, plan = planned()
    assert (plan.engine, plan.engine_version) == ("STANDIN", "1.4")
    assert plan.image == "registry.example/stand-in/server:1.4.0"
    settings = plan.settings
    assert (settings.max_batched_tokens, settings.max_sequences) == (4096, 64)
    assert settings.utilization_percent == 85
    assert dict(settings.modality_limits) == {"image": 8, "video": 0, "audio": 0}
    # 0.5 GiB of base and the forward pass of E4B (0.098 GiB a 1024 tokens), which is more than 64 MiB of sampler;
    # and what the batch's tokens bring for each of E4B's 42 layers, 256 values of two bytes
    assert plan.memory.overhead == int((0.5 + 0.098 * 4) * 1024 + 4096 * 42 * 256 * 2 / 1024**2)
    assert (plan.demand.cpu_millis, plan.demand.memory_bytes) == (1500, 6 * 2**30)


def test_what_is_known_to_be_bad_with_vllm_is_not_held_against_it():
    deployment_version = "0.18.0"  # a version below which vLLM is refused
    request, _, _ = planned()
    verdict = feasible(replace(request, engine_version=deployment_version), [H100], CATALOG)
    assert verdict.fits
    refused = replace(request, engine="VLLM", engine_version=deployment_version)
    assert not feasible(refused, [H100], CATALOG).fits


def test_its_plan_is_read_from_annotation_and_status_alike():
    request, verdict, plan = planned()
    assert from_annotation(to_annotation(plan)) == plan
    found = from_status(to_status(plan), verdict, request, catalog=CATALOG)
    assert (found.settings, found.engine, found.image) == (plan.settings, plan.engine, plan.image)
    shorter = to_status(plan) | {"contextLength": 8192}
    assert from_status(shorter, verdict, request, catalog=CATALOG).kv_tokens > 0


def test_its_pod_is_rendered_in_its_own_words():
    serving = container()
    assert serving["command"] == ["stand-in", "start"]
    assert "gemma-4-E4B-it" in serving["args"][0]
    assert serving["args"][1:3] == ["serve-as=chat", "context=16384"]
    assert STAND_IN.settings(serving["args"]) == planned()[2].settings
    assert {"name": "STANDIN_CACHE", "value": "/cache"} in serving["env"]
    assert not [word for word in (*serving["args"], *serving["command"]) if "vllm" in word]
    assert not [variable for variable in serving["env"] if variable["name"].startswith("VLLM")]


def test_it_is_reached_and_watched_where_it_listens():
    made, serving = manifests(), container()
    assert serving["ports"][0]["containerPort"] == 9001
    assert serving["readinessProbe"]["httpGet"]["path"] == "/alive"
    assert serving["startupProbe"]["exec"]["command"][-2:] == ["/say", '{"model":"chat","words":1}']
    assert made["Service"]["spec"]["ports"][0]["port"] == 9001
    ports = {
        port["port"] for rule in made["NetworkPolicy"]["spec"]["ingress"] for port in rule.get("ports", ())
    }
    assert ports == {9001}


@pytest.mark.parametrize(
    ("body", "failure", "tokens"),
    [
        (b'{"model":"chat","said":1}', None, 1),
        (b'{"model":"chat","said":0}', FailureKind.NO_TOKEN, 0),
        (b'{"model":"chat"}', FailureKind.BROKEN, 0),
        (b'{"model":"other","said":1}', FailureKind.WRONG_MODEL, 0),
    ],
)
def test_its_answers_prove_it_in_its_own_dialect(body, failure, tokens):
    result = judge(
        status=200, body=body, model_name="chat", generated_tokens=STAND_IN.generated_tokens, seconds=0.1
    )
    assert (result.kind, result.tokens) == (failure, tokens)


def test_its_figures_are_read_by_its_own_names():
    body = (
        b"standin_active 3\nstandin_queued 2\nstandin_cache_full 0.25\n"
        b"standin_tokens_written_total 70\nstandin_tokens_read_total 500\n"
        b'standin_answers_total{why="stop"} 4\nstandin_cache{tokens="12345"} 1\n'
        b"vllm:num_requests_running 9\n"
    )
    found = sample(body, STAND_IN.metrics)
    assert (found.running, found.waiting, found.generation_tokens) == (3, 2, 70)
    assert found.kv_tokens == 12345
