"""`gemma-operator plan`, run as the command line does."""

import json
from pathlib import Path

import pytest
import yaml

from gemma_operator.api.status import Alternative, Plan
from gemma_operator.catalog.loader import packaged
from gemma_operator.cli import asked, fleets, main
from gemma_operator.cli import plan as plan_command
from gemma_operator.planner.plan import to_annotation

PUBLISHED = Path(__file__).parents[2] / "data" / "nodes"
GKE = "cloud.google.com/gke-"


def a_node(
    name, *, pool="h100", card="nvidia-h100-80gb", gpus=8, disk="2000Gi", cpu="200", taints=(), **labels
):
    return {
        "kind": "Node",
        "metadata": {"name": name, "labels": {f"{GKE}nodepool": pool, f"{GKE}accelerator": card, **labels}},
        "spec": {"taints": [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}, *taints]},
        "status": {
            "allocatable": {
                "cpu": cpu,
                "memory": "1800Gi",
                "ephemeral-storage": disk,
                "pods": "110",
                "nvidia.com/gpu": str(gpus),
            }
        },
    }


def an_l4(name="l4", *, gpus=1, **more):
    return a_node(name, pool="l4", card="nvidia-l4", gpus=gpus, **more)


def a_pod(node, *, gpus, labels=None):
    resources = {"requests": {"nvidia.com/gpu": str(gpus)}}
    return {
        "kind": "Pod",
        "metadata": {"name": f"on-{node}", "namespace": "team", "labels": labels or {}},
        "spec": {"nodeName": node, "containers": [{"resources": resources}]},
    }


@pytest.fixture
def plan(tmp_path, capsys):
    def run(spec, *objects, output="json", extra=()):
        deployment = {
            "apiVersion": "gemma-operator.io/v1alpha1",
            "kind": "GemmaDeployment",
            "metadata": {"name": "chat", "namespace": "team"},
            "spec": spec,
        }
        (tmp_path / "cr.yaml").write_text(yaml.safe_dump(deployment))
        (tmp_path / "nodes.yaml").write_text(yaml.safe_dump({"kind": "List", "items": list(objects)}))
        words = [
            "plan",
            "-f",
            str(tmp_path / "cr.yaml"),
            "--nodes",
            str(tmp_path / "nodes.yaml"),
            "-o",
            output,
        ]
        code = main([*words, *extra])
        printed = capsys.readouterr()
        return code, json.loads(printed.out) if output == "json" and code != 2 else printed.out, printed.err

    return run


def test_the_plan_is_as_the_status_has_it(plan):
    code, document, _ = plan({}, a_node("h"), an_l4())
    assert code == 0
    parsed = Plan.model_validate(document["plan"])
    assert (parsed.variant, parsed.precision, parsed.accelerators_per_replica) == ("31B", "bf16", 1)
    assert document["plan"]["pool"]["name"] == "h100"
    assert set(document["plan"]) <= {field.alias for field in Plan.model_fields.values()}
    alternatives = [Alternative.model_validate(each) for each in document["alternatives"]]
    assert 0 < len(alternatives) <= 10


def test_the_same_question_gets_the_same_answer_in_any_order(plan):
    nodes = [a_node("h"), an_l4("b"), an_l4("a")]
    one, other = plan({}, *nodes)[1], plan({}, *nodes[::-1])[1]
    for document in (one, other):
        del document["plan"]["plannedAt"]
    assert one == other


def test_what_fits_nowhere_is_null_with_reasons_in_gib_and_exit_1(plan):
    spec = {"model": {"variants": ["31B"], "precisions": ["bf16"]}}
    code, document, _ = plan(spec, an_l4())
    assert (code, document["plan"]) == (1, None)
    rejected = document["alternatives"][0]
    assert (rejected["code"], rejected["pool"]) == ("WeightsTooLarge", "gke-nodepool/l4")
    assert "GiB of weights" in rejected["message"]
    assert "no plan: no pool can hold" in plan(spec, an_l4(), output="table")[1]


def test_without_any_pool_it_says_what_to_add(plan):
    code, text, _ = plan({}, output="table")
    assert code == 1
    assert "add GPU nodes, or declare an AcceleratorPool" in text


def test_gpus_that_pods_hold_are_not_free(plan):
    spec = {"model": {"variants": ["E4B"], "precisions": ["bf16"]}}
    code, document, _ = plan(spec, an_l4(), a_pod("l4", gpus=1))
    assert (code, document["plan"]) == (1, None)
    assert document["alternatives"][0]["code"] == "NoRoom"
    assert "no room now" in plan(spec, an_l4(), a_pod("l4", gpus=1), output="table")[1]


def a_placed_deployment(*nodes, name, replicas=1):
    """The child that a plan of those nodes would have, as far as a claim is read from it."""
    question = asked.from_object(
        {
            "metadata": {"name": name, "namespace": "team"},
            "spec": {"model": {"variants": ["E4B"]}, "replicas": replicas},
        }
    )
    answer = plan_command.plan(
        question, fleets.of_objects(nodes), packaged(), planned_at="2026-01-01T00:00:00Z"
    )
    return {
        "kind": "Deployment",
        "metadata": {
            "name": name,
            "namespace": "team",
            "annotations": {"gemma-operator.io/plan": to_annotation(answer.plan)},
        },
        "spec": {"replicas": replicas},
    }


def test_what_others_have_still_to_get_is_not_free(plan):
    spec = {"model": {"variants": ["E4B"]}}
    other = a_placed_deployment(an_l4(gpus=2), name="other", replicas=2)
    assert plan(spec, an_l4(gpus=2), other)[0] == 1
    assert plan(spec, an_l4(gpus=3), a_placed_deployment(an_l4(gpus=3), name="other", replicas=2))[0] == 0


def test_what_it_claims_itself_is_its_own(plan):
    own = a_placed_deployment(an_l4(), name="chat")
    assert plan({"model": {"variants": ["E4B"]}}, an_l4(), own)[0] == 0


def test_its_own_pods_are_replaced(plan):
    own = a_pod("l4", gpus=1, labels={"gemma-operator.io/deployment": "chat"})
    assert plan({"model": {"variants": ["E4B"]}}, an_l4(), own)[0] == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"spec": {"unschedulable": True}}, "every node of it is cordoned"),
        ({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}, "every node of it is being deleted"),
        (
            {"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}},
            "every node of it is not Ready",
        ),
        ({"status": {"allocatable": {"memory": "1Mi"}}}, "GPUs free and are short of memory"),
        ({"status": {"allocatable": {"cpu": "100m"}}}, "GPUs free and are short of CPU"),
        ({"status": {"allocatable": {"pods": "0"}}}, "GPUs free and are short of a place for a pod"),
    ],
)
def test_a_node_that_has_no_room_with_free_gpus_says_why(plan, change, said):
    spec = {"model": {"variants": ["E4B"], "precisions": ["bf16"]}}
    code, text, _ = plan(spec, merged(an_l4(), change), output="table")
    assert code == 1
    assert said in text


def merged(obj, change):
    return {
        **obj,
        **{
            key: merged(obj.get(key, {}), value) if isinstance(value, dict) else value
            for key, value in change.items()
        },
    }


def test_disk_limits_room_and_the_table_says_so(plan):
    spec = {"replicas": 4, "model": {"variants": ["E4B"], "precisions": ["bf16"]}}
    code, text, _ = plan(spec, an_l4(gpus=4, disk="40Gi"), output="table")
    assert code == 0
    assert "2 of 4 replicas now, limited by ephemeral-storage" in text


def test_a_declared_pool_is_planned_for_without_a_node(plan):
    pool = {
        "apiVersion": "gemma-operator.io/v1alpha1",
        "kind": "AcceleratorPool",
        "metadata": {"name": "later"},
        "spec": {
            "accelerator": "nvidia-h100-80gb",
            "acceleratorsPerNode": 8,
            "maxNodes": 1,
            "nodeSelector": {"pool": "later"},
            "hourlyPrice": {"amount": "20", "currency": "USD"},
        },
    }
    code, document, _ = plan({}, pool)
    assert (code, document["plan"]["pool"]["source"]) == (0, "accelerator-pool")
    assert document["plan"]["hourlyCost"] == {"amount": "2.5", "currency": "USD"}
    table = plan({}, pool, output="table")[1]
    assert "0 of 1 replicas now, 1 after a scale-up" in table
    assert "2.5 USD a replica" in table


def test_whole_gpus_and_slices_of_one_node_are_never_added_up(plan):
    node = a_node("n", gpus=6)
    node["status"]["allocatable"]["nvidia.com/mig-3g.40gb"] = "2"
    node["metadata"]["labels"] |= {
        "nvidia.com/gpu.count": "8",
        "nvidia.com/mig.strategy": "mixed",
        "nvidia.com/mig-3g.40gb.memory": "40320",
        "nvidia.com/mig-3g.40gb.count": "2",
    }
    spec = {"model": {"variants": ["E4B"], "precisions": ["bf16"]}}
    whole, slices = "nvidia.com/gpu", "nvidia.com/mig-3g.40gb"
    planned = {n: plan(spec | {"replicas": n}, node)[1]["plan"]["pool"]["resourceName"] for n in (2, 3, 6)}
    assert planned == {2: slices, 3: whole, 6: whole}
    assert "2 of 8 replicas now" in plan(spec | {"replicas": 8}, node, output="table")[1]
    _, document, _ = plan(spec | {"replicas": 2}, node)
    assert document["plan"]["memoryMiB"]["total"] < 40320
    assert document["plan"]["acceleratorsPerReplica"] == 1


def test_a_node_whose_mig_layout_is_being_changed_has_no_room(plan):
    node = a_node("n", **{"nvidia.com/mig.config.state": "pending"})
    assert plan({}, node)[0] == 1


def test_a_taint_nobody_tolerates_is_named(plan):
    node = a_node("n", taints=[{"key": "team", "value": "x", "effect": "NoSchedule"}])
    code, document, _ = plan({}, node)
    assert code == 1
    assert any(each["code"] == "Tainted" and "team=x" in each["message"] for each in document["alternatives"])
    tolerations = [{"key": "team", "operator": "Exists"}]
    assert plan({"hardware": {"tolerations": tolerations}}, node)[0] == 0


def test_a_node_selector_is_looked_at_before_pools(plan):
    nodes = [an_l4("a", zone="a"), an_l4("b", zone="b")]
    spec = {"model": {"variants": ["E4B"]}, "replicas": 2, "hardware": {"nodeSelector": {"zone": "a"}}}
    assert "1 of 2 replicas now" in plan(spec, *nodes, output="table")[1]
    assert plan({"hardware": {"nodeSelector": {"zone": "c"}}}, *nodes)[0] == 1


def test_yaml_holds_the_same_as_json(plan):
    _, text, _ = plan({}, a_node("h"), output="yaml")
    document = plan({}, a_node("h"))[1]
    read = yaml.safe_load(text)
    assert read["plan"].keys() == document["plan"].keys()
    assert read["alternatives"] == document["alternatives"]


def test_a_suspended_deployment_is_planned_and_needs_no_room(plan):
    code, text, _ = plan({"suspend": True}, a_node("h"), a_pod("h", gpus=8), output="table")
    assert code == 0
    assert "no replica is wanted" in text


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"serving": {"contextLength": 1}}, "spec.serving.contextLength"),
        ({"model": {"variants": ["32B"]}}, "spec.model.variants[0]"),
        ({"autoscaling": {"maxReplicas": 2}}, "spec.autoscaling"),
    ],
)
def test_bad_input_names_the_field_and_exits_2(plan, spec, says):
    code, out, err = plan(spec, a_node("h"))
    assert (code, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1


def test_an_unknown_accelerator_is_said_with_the_nearest(plan):
    code, text, _ = plan({"hardware": {"accelerators": ["nvidia-l5"]}}, an_l4(), output="table")
    assert code == 1
    assert "nvidia-l5 (nearest: nvidia-l4" in text


def test_a_file_without_one_deployment_is_bad_input(tmp_path, capsys):
    path = tmp_path / "none.yaml"
    path.write_text("kind: Node\nmetadata: {name: n}\n")
    assert main(["plan", "-f", str(path), "--nodes", str(path)]) == 2
    assert "holds 0 GemmaDeployments: give one" in capsys.readouterr().err


def test_a_cluster_that_is_not_there_is_bad_input(plan, tmp_path, capsys, monkeypatch):
    plan({}, an_l4())
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "missing"))
    assert main(["plan", "-f", str(tmp_path / "cr.yaml")]) == 2
    assert "kubeconfig" in capsys.readouterr().err


def test_a_published_node_is_planned_for(plan):
    objects = list(yaml.safe_load_all((PUBLISHED / "k3s-l4-gce.yaml").read_text()))
    code, document, _ = plan({}, *objects)
    assert (code, document["plan"]["accelerator"]) == (0, "nvidia-l4")


@pytest.fixture
def settings(tmp_path):
    def written(**said):
        path = tmp_path / "settings.yaml"
        path.write_text(yaml.safe_dump(said))
        return "--settings", str(path)

    return written


KEPT = [{"pools": ["gke-nodepool/h100"], "namespaces": ["research"]}]


def test_a_pool_that_the_operator_keeps_for_others_is_refused_as_the_status_says_it(plan, settings):
    kept = settings(poolAccess=KEPT)
    code, document, _ = plan({}, a_node("h"), an_l4(), extra=kept)
    assert (code, document["plan"]["pool"]["name"]) == (0, "l4")
    refused = [each for each in document["alternatives"] if "h100" in each.get("pool", "")]
    assert [each["code"] for each in refused] == ["PoolNotAllowed"]
    assert "poolAccess keeps it for other namespaces than team" in refused[0]["message"]
    assert plan({}, a_node("h"), an_l4())[1]["plan"]["pool"]["name"] == "h100"


def test_with_no_pool_left_the_answer_is_no_and_says_whose_pools_they_are_not(plan, settings):
    code, printed, _ = plan({}, a_node("h"), output="table", extra=settings(poolAccess=KEPT))
    assert code == 1
    assert "PoolNotAllowed" in printed
    assert "other namespaces than team" in printed


@pytest.mark.parametrize(("namespace", "taken"), [("research", "h100"), ("sales", "l4"), (None, "l4")])
def test_a_file_that_names_no_namespace_is_planned_in_the_one_that_is_given(
    tmp_path, capsys, settings, namespace, taken
):
    asked_for = {"kind": "GemmaDeployment", "metadata": {"name": "chat"}, "spec": {}}
    (tmp_path / "cr.yaml").write_text(yaml.safe_dump(asked_for))
    (tmp_path / "nodes.yaml").write_text(yaml.safe_dump_all([a_node("h"), an_l4()]))
    words = ["plan", "-f", str(tmp_path / "cr.yaml"), "--nodes", str(tmp_path / "nodes.yaml"), "-o", "json"]
    more = ["-n", namespace] if namespace else []
    assert main([*words, *more, *settings(poolAccess=KEPT)]) == 0
    assert json.loads(capsys.readouterr().out)["plan"]["pool"]["name"] == taken


def test_a_namespace_that_the_file_contradicts_is_bad_input(plan):
    code, _, error = plan({}, a_node("h"), extra=("--namespace", "sales"))
    assert code == 2
    assert "--namespace sales: the GemmaDeployment says metadata.namespace team" in error
    assert plan({}, a_node("h"), extra=("--namespace", "team"))[0] == 0


def test_the_operators_engine_and_prices_are_taken_and_flags_go_before_them(plan, settings, tmp_path):
    card, prices = "nvidia-h100-80gb", {}
    for amount in ("5", "7"):
        prices[amount] = tmp_path / f"prices-{amount}.yaml"
        text = {"date": "2026-02-09", "source": "a test", "currency": "USD", "accelerators": {card: amount}}
        prices[amount].write_text(yaml.safe_dump(text))
    said = settings(defaultEngineVersion="0.28.0", priceFile=str(prices["5"]))
    _, document, _ = plan({}, a_node("h", gpus=1), extra=said)
    assert document["plan"]["engine"]["version"] == "0.28.0"
    assert document["plan"]["hourlyCost"]["amount"] == "5"
    _, document, _ = plan({}, a_node("h", gpus=1), extra=(*said, "--prices", str(prices["7"])))
    assert document["plan"]["hourlyCost"]["amount"] == "7"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"poolAcces": []}, "unknown setting 'poolAcces'"),
        ({"catalogDir": "/nowhere"}, "/nowhere"),
        ({"priceFile": "/nowhere.yaml"}, "/nowhere.yaml"),
        ({"defaultEngine": "NONE"}, "defaultEngine: no engine is NONE; known: VLLM"),
    ],
)
def test_settings_that_cannot_be_followed_are_bad_input(plan, settings, said, words):
    code, _, error = plan({}, a_node("h"), extra=settings(**said))
    assert code == 2
    assert words in error
    assert error.count("\n") == 1


def a_file(tmp_path, **changed):
    obj = {
        "apiVersion": "gemma-operator.io/v1alpha1",
        "kind": "GemmaDeployment",
        "metadata": {"name": "chat"},
    }
    path = tmp_path / "asked.yaml"
    path.write_text(yaml.safe_dump({**obj, "spec": {}, **changed}))
    return str(path)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (
            {"spec": {"serving": {"contextlength": 8192}}},
            "spec.serving.contextlength: no such field: contextLength is",
        ),
        ({"spec": {"modle": {}}}, "spec.modle: no such field: model is meant?"),
        ({"spec": {"qqqq": 1}}, "spec.qqqq: no such field; known here: model, serving, hardware"),
        (
            {"spec": {"hardware": {"tolerations": [{"keys": "a"}]}}},
            "spec.hardware.tolerations[0].keys: no such field: key",
        ),
        ({"metadata": {"name": "X_Y"}}, "metadata.name: 'X_Y' is no name"),
        ({"metadata": {"name": "x", "namespace": "Team A"}}, "namespace 'Team A' is no name"),
    ],
)
def test_a_deployment_that_kubectl_would_refuse_is_bad_input(tmp_path, capsys, changed, says):
    """Parsing passes over an unknown field: the plan would be one for another deployment."""
    assert main(["plan", "-f", a_file(tmp_path, **changed), "--what-if", "gpu=nvidia-l4:4"]) == 2
    assert says in capsys.readouterr().err


def test_a_pool_with_a_field_that_does_not_exist_is_bad_input(tmp_path, capsys):
    pool = {"accelerator": "nvidia-l4", "acceleratorsPerNode": 1, "nodeSelector": {"a": "b"}, "maxNods": 2}
    path = tmp_path / "pool.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "gemma-operator.io/v1alpha1",
                "kind": "AcceleratorPool",
                "metadata": {"name": "l4"},
                "spec": pool,
            }
        )
    )
    assert main(["pools", "--nodes", str(path)]) == 2
    assert "AcceleratorPool l4: spec.maxNods: no such field: maxNodes is meant?" in capsys.readouterr().err


def test_standard_input_is_not_two_files(capsys):
    assert main(["plan", "-f", "-", "--nodes", "-"]) == 2
    assert "standard input holds one of the two" in capsys.readouterr().err


def test_an_empty_name_explains_nothing(plan):
    assert plan({}, an_l4(gpus=4), extra=("--explain", ""))[0] == 2


def test_a_card_is_read_in_any_case(tmp_path, capsys):
    said = []
    for name in ("NVIDIA-L4", "nvidia-l4"):
        main(["plan", "-f", a_file(tmp_path), "--what-if", f"gpu={name}:4"])
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert "nvidia-l4-x4" in said[0]


def test_where_no_node_has_the_labels_that_are_asked_for_it_says_so(plan):
    code, found, _ = plan({"hardware": {"nodeSelector": {"team": "a"}}}, an_l4(gpus=4), output="table")
    assert code == 1
    assert "no pool has a node with the labels of hardware.nodeSelector (team=a)" in found
