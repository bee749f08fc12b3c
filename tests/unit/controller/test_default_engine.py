"""What was planned with one default engine keeps it: made, read and asked by the engine that its plan names."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gemma_operator.api import names
from gemma_operator.backends.decision import Ask
from gemma_operator.controller.inputs import InputsOf
from gemma_operator.controller.policies import decide
from gemma_operator.controller.reconciler import engine_of
from gemma_operator.controller.seen import targets
from gemma_operator.engines import registry
from gemma_operator.planner.plan import to_annotation
from gemma_operator.settings import OperatorSettings
from plans import a_plan
from snapshots import ENGINE, NOW, a_placement, a_replica, a_running_snapshot, a_snapshot, a_spec, said
from unit.controller.builders import a_gd
from unit.engines.stand_in import StandIn

STAND_IN = StandIn()
THEN, NOW_SET = OperatorSettings(), OperatorSettings(default_engine_version="0.31")
ASKED = {"annotations": {names.REPLAN_REQUESTED_AT: "today"}}


@pytest.fixture(autouse=True)
def two_engines(monkeypatch):
    monkeypatch.setitem(registry.ENGINES, STAND_IN.name, STAND_IN)


def planned_then(**spec):
    """The hash of the spec with the default of then, and what the Deployment carries of it."""
    made = InputsOf(THEN)(a_gd(**spec)).inputs_hash
    plan = a_plan(inputs_hash=made, engine_version="0.32")
    return made, {names.INPUTS_HASH: made, names.PLAN: to_annotation(plan)}


def read_now(obj, carried=None, settings=NOW_SET):
    return InputsOf(settings, carried=lambda _obj: carried or {})(obj)


def test_another_default_version_is_no_other_input_of_what_is_planned():
    made, carried = planned_then()
    read = read_now(a_gd(), carried)
    assert (read.inputs_hash, read.request.engine_version) == (made, "0.32")


def test_the_status_tells_it_where_no_deployment_stands_yet():
    made, _ = planned_then()
    said = {"plan": {"engine": {"name": "VLLM", "version": "0.32"}, "inputsHash": made}}
    assert read_now(a_gd(status=said)).inputs_hash == made


def test_what_is_not_planned_yet_takes_the_default_of_now():
    assert read_now(a_gd()).request.engine_version == "0.31"


def test_another_spec_takes_the_default_of_now():
    _, carried = planned_then()
    edited = a_gd(generation=2, serving={"contextLength": 8192})
    assert read_now(edited, carried).request.engine_version == "0.31"


def test_who_asks_for_a_plan_takes_the_default_of_now_until_it_was_answered():
    made, carried = planned_then()
    assert read_now(a_gd(metadata=ASKED), carried).request.engine_version == "0.31"
    answered = a_gd(metadata=ASKED, status={"lastHandledReplanAt": "today"})
    assert read_now(answered, carried).inputs_hash == made


def test_a_version_that_the_user_wrote_is_nobodys_default():
    spec = {"serving": {"engine": {"version": "0.30"}}}
    made, carried = planned_then(**spec)
    read = read_now(a_gd(**spec), carried)
    assert (read.inputs_hash, read.request.engine_version) == (made, "0.30")


def test_another_default_engine_is_no_other_input_either():
    made, carried = planned_then()
    other = OperatorSettings(default_engine="STANDIN", default_engine_version="1.4")
    assert read_now(a_gd(), carried, other).inputs_hash == made
    assert read_now(a_gd(), settings=other).request.engine == "STANDIN"


def test_a_plan_of_an_engine_that_this_operator_lacks_is_no_plan_of_these_inputs(monkeypatch):
    other = OperatorSettings(default_engine="STANDIN", default_engine_version="1.4")
    made = InputsOf(other)(a_gd()).inputs_hash
    carried = {names.INPUTS_HASH: made, names.PLAN: to_annotation(a_plan(inputs_hash=made, engine="STANDIN"))}
    monkeypatch.delitem(registry.ENGINES, "STANDIN")
    assert read_now(a_gd(), carried).request.engine == "VLLM"


def test_a_plan_is_made_by_the_engine_that_it_names_whatever_the_default_is():
    """The carried plan is vLLM's and the operator's default the other one, and the other way round."""
    running = a_running_snapshot()
    assert engine_of(running, STAND_IN) is ENGINE
    snapshot = a_snapshot()
    theirs = a_plan(engine="STANDIN", engine_version="1.4", inputs_hash=snapshot.inputs_hash)
    placed = replace(snapshot, placement=a_placement(theirs, token=snapshot.ask_token))
    engine = engine_of(placed, ENGINE)
    made = {each["kind"]: each for each in decide(placed, now=NOW, engine=engine).apply}
    template = made["Deployment"]["spec"]["template"]
    assert template["spec"]["containers"][0]["command"] == list(STAND_IN.command)
    assert template["metadata"]["annotations"][names.ENGINE] == "STANDIN"
    assert made["Service"]["spec"]["ports"][0]["port"] == STAND_IN.port


def test_without_a_plan_there_is_the_default():
    assert engine_of(a_snapshot(), STAND_IN) is STAND_IN


def test_in_a_rollout_from_one_engine_to_another_each_pod_is_asked_by_its_own():
    pods = (a_replica("old"), a_replica("theirs", engine="STANDIN"), a_replica("new", engine="VLLM"))
    asked = {target.pod_uid: target for target in targets(a_running_snapshot(replicas=pods), ENGINE)}
    assert asked["uid-of-theirs"].token_request == STAND_IN.token_request(model_name="chat")
    assert (asked["uid-of-theirs"].engine, asked["uid-of-theirs"].port) == (STAND_IN, STAND_IN.port)
    assert {asked[f"uid-of-{name}"].engine for name in ("old", "new")} == {ENGINE}


def planned_by_a_newer_operator(monkeypatch, **changes):
    """What serves was planned for an engine that this version does not know."""
    monkeypatch.delitem(registry.ENGINES, "STANDIN")
    plan = a_plan(engine="STANDIN", engine_version="1.4", inputs_hash="of another default")
    pod = a_replica("theirs", engine="STANDIN")
    snapshot = a_running_snapshot(replicas=(pod,), facts={}, status=HEALTHY)
    return replace(snapshot, plan=plan, **changes)


HEALTHY = {
    "observedGeneration": 1,
    "conditions": [{"type": "Healthy", "status": "True", "reason": "Serving"}],
}


def test_a_plan_of_an_engine_that_this_operator_lacks_is_a_condition_and_what_runs_goes_on(monkeypatch):
    snapshot = planned_by_a_newer_operator(monkeypatch)
    decision = decide(snapshot, now=NOW, engine=engine_of(snapshot, ENGINE))
    assert (decision.apply, decision.delete, decision.ask) == ((), (), Ask.NOTHING)
    assert said(decision)["Ready"] == ("False", "NotImplemented")
    assert said(decision)["Stalled"] == ("True", "NotImplemented")
    assert said(decision)["Healthy"] == ("True", "Serving")
    for words in ("engine STANDIN", "run the version that planned it", "VLLM in serving.engine.name"):
        assert words in decision.conditions[0].message
    assert targets(snapshot, ENGINE) == (), "its answers would be misread"


@pytest.mark.parametrize(
    "wanted",
    [
        {"annotations": {names.REPLAN_REQUESTED_AT: "today"}},
        {"deployment": a_spec(serving={"engine": {"name": "VLLM"}})},
    ],
    ids=["the annotation", "the engine's name"],
)
def test_it_is_planned_anew_where_the_user_says_so(monkeypatch, wanted):
    snapshot = planned_by_a_newer_operator(monkeypatch, **wanted)
    assert decide(snapshot, now=NOW, engine=engine_of(snapshot, ENGINE)).ask is Ask.PLACE
