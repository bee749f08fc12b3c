"""`gemma-operator plan --all`, `--explain`, `--what-if` and `--prices`, run as the command line does."""

import json

import pytest
import yaml

from gemma_operator.cli import main

GKE = "cloud.google.com/gke-"


def a_node(name, card, *, gpus=4):
    return {
        "kind": "Node",
        "metadata": {"name": name, "labels": {f"{GKE}nodepool": name, f"{GKE}accelerator": card}},
        "status": {"allocatable": {"nvidia.com/gpu": str(gpus)}},
    }


L4, H100 = a_node("l4", "nvidia-l4"), a_node("h100", "nvidia-h100-80gb")
TABLE = "CANDIDATE", "FITS", "NEEDS", "GiB", "OFFERS", "GiB", "CODE", "MESSAGE"


@pytest.fixture
def plan(tmp_path, capsys):
    def run(*more, nodes=(L4, H100), spec=None, output="json"):
        question = tmp_path / "cr.yaml"
        question.write_text(
            yaml.safe_dump({"kind": "GemmaDeployment", "metadata": {"name": "chat"}, "spec": spec or {}})
        )
        fleet = tmp_path / "nodes.yaml"
        fleet.write_text(yaml.safe_dump_all(nodes))
        code = main(["plan", "-f", str(question), "--nodes", str(fleet), "-o", output, *more])
        printed = capsys.readouterr()
        return code, json.loads(printed.out) if output == "json" and code != 2 else printed.out, printed.err

    return run


def test_every_candidate_is_listed_with_the_numbers_that_decided(plan):
    _, document, _ = plan("--all")
    every = {each["candidate"]: each for each in document["candidates"]}
    assert len(every) == len(document["candidates"]) > 40
    first = document["candidates"][0]
    assert (first["candidate"], first["code"], first["fits"]) == (
        "31B/bf16/gke-nodepool/h100/1",
        "Chosen",
        "yes",
    )
    assert first["needsMiB"] <= first["offersMiB"]
    too_large = every["31B/bf16/gke-nodepool/l4/1"]
    assert (too_large["fits"], too_large["code"]) == ("no", "WeightsTooLarge")
    assert too_large["needsMiB"] > too_large["offersMiB"]
    assert every["12B/fp8"]["code"] == "NoCheckpoint"


def test_without_all_a_machine_sees_the_ten(plan):
    _, document, _ = plan()
    assert "candidates" not in document
    assert len(document["alternatives"]) == 10


def test_the_table_of_all_has_a_line_a_candidate(plan):
    _, document, _ = plan("--all")
    text = plan("--all", output="table")[1].splitlines()
    start = next(number for number, line in enumerate(text) if tuple(line.split()) == TABLE)
    assert len(text) - start - 1 == len(document["candidates"])


@pytest.mark.parametrize("gpus", [1, 2])
def test_one_candidate_is_explained_to_its_verdict(plan, gpus):
    name = f"31B/bf16/gke-nodepool/h100/{gpus}"
    code, text, _ = plan("--explain", name, output="table")
    assert code == 0
    assert text.startswith(f"{name}: yes, ")
    assert "one request of 32,768 tokens" in text
    steps = plan("--explain", name)[1]["explanation"]["steps"]
    bytes_of = {(step["section"], step["label"]): step["bytes"] for step in steps}
    usable, needed = bytes_of["card", "usable"], bytes_of["verdict", "needed"]
    assert usable - needed == bytes_of["verdict", "to spare"] >= bytes_of["verdict", "band"]


def test_one_that_cannot_serve_is_explained_too(plan):
    _, text, _ = plan("--explain", "31B/bf16/gke-nodepool/l4/1", output="table")
    assert "WeightsTooLarge" in text
    assert text.rstrip().endswith("less than nothing: no")
    _, text, _ = plan("--explain", "12B/fp8", output="table")
    assert text == "12B/fp8: no, NoCheckpoint: no fp8 checkpoint of 12B (Instruct) is known\n"


def test_an_unknown_candidate_is_bad_input_with_the_nearest(plan):
    code, _, error = plan("--explain", "31B/bf16/gke-nodepool/h101/1")
    assert code == 2
    assert "nearest: 31B/bf16/gke-nodepool/h100/1" in error
    _, _, error = plan("--explain", "12B/w4a16")
    assert "nearest: 12B/w4a16/gke-nodepool/" in error


def test_shapes_of_one_pool_are_told_apart_by_name(plan):
    small, large = a_node("a", "nvidia-l4", gpus=1), a_node("b", "nvidia-l4", gpus=2)
    large["metadata"]["labels"][f"{GKE}nodepool"] = "a"
    spec = {"model": {"variants": ["E4B"], "precisions": ["bf16"]}}
    _, document, _ = plan("--all", nodes=(small, large), spec=spec)
    names = [each["candidate"] for each in document["candidates"]]
    assert len(set(names)) == len(names) == 3
    alone, *twice = sorted(names, key=lambda name: "@" in name)
    assert alone == "E4B/bf16/gke-nodepool/a/2"
    code, _, error = plan("--explain", "E4B/bf16/gke-nodepool/a/1", nodes=(small, large), spec=spec)
    assert code == 2
    assert all(name in error for name in twice)
    assert plan("--explain", twice[0], nodes=(small, large), spec=spec)[0] == 0


def test_hardware_that_is_not_there_can_be_planned_with(plan):
    spec = {"model": {"variants": ["E4B"]}, "replicas": 5}
    code, _, _ = plan(nodes=(), spec=spec)
    assert code == 1
    code, document, _ = plan("--what-if", "gpu=nvidia-l4:4,nodes=2", nodes=(), spec=spec)
    assert (code, document["plan"]["accelerator"]) == (0, "nvidia-l4")
    text = plan("--what-if", "gpu=nvidia-l4:4", nodes=(), spec=spec, output="table")[1]
    assert "4 of 5 replicas now" in text


def test_what_if_may_be_given_twice_and_comes_beside_what_is_there(plan):
    more = ("--what-if", "gpu=nvidia-b200:8", "--what-if", "gpu=nvidia-b200:8", "--all")
    _, document, _ = plan(*more)
    pools = {
        each["candidate"].split("/")[3] for each in document["candidates"] if "/" in each["candidate"][8:]
    }
    assert {"l4", "h100", "what-if-1-nvidia-b200-x8", "what-if-2-nvidia-b200-x8"} <= pools


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nvidia-l4", "is not gpu=NAME"),
        ("gpu=nvidia-l5:2", "nearest: nvidia-l4"),
        ("gpu=nvidia-l4:0", "1 to 16"),
        ("gpu=nvidia-l4:4,nodes=many", "1 to 1000"),
        ("gpu=nvidia-l4,spot=yes", "is not gpu=NAME"),
    ],
)
def test_a_wrong_what_if_is_bad_input(plan, text, says):
    code, _, error = plan("--what-if", text)
    assert code == 2
    assert says in error


def test_without_a_cluster_what_if_is_a_fleet_by_itself_and_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    question = tmp_path / "cr.yaml"
    question.write_text(yaml.safe_dump({"kind": "GemmaDeployment", "metadata": {"name": "chat"}, "spec": {}}))
    assert main(["plan", "-f", str(question)]) == 2
    assert main(["plan", "-f", str(question), "--what-if", "gpu=nvidia-h200:8"]) == 0
    assert "--what-if alone" in capsys.readouterr().err


@pytest.fixture
def prices(tmp_path):
    def write(**members):
        path = tmp_path / "prices.yaml"
        document = {"date": "2026-11-20", "source": "a test", "currency": "USD", **members}
        path.write_text(yaml.safe_dump(document))
        return "--prices", str(path)

    return write


SMALL = {"model": {"variants": ["E4B"], "precisions": ["bf16"]}}


def test_a_replica_costs_its_share_of_the_node(plan, prices):
    given = prices(pools={"l4": "4"}, accelerators={"nvidia-h100-80gb": "3"})
    _, document, _ = plan(*given, spec=SMALL)
    assert document["plan"]["hourlyCost"] == {"amount": "1", "currency": "USD"}
    assert document["plan"]["pool"]["name"] == "l4"


def test_the_cheaper_of_equals_is_taken_and_the_other_says_both_prices(plan, prices):
    given = prices(accelerators={"nvidia-l4": "3", "nvidia-h100-80gb": "2.5"})
    _, document, _ = plan(*given, "--all", spec=SMALL)
    assert document["plan"]["pool"]["name"] == "h100"
    other = next(each for each in document["candidates"] if each["candidate"].endswith("/l4/1"))
    assert other["message"].endswith("nvidia-l4 cost 3 USD an hour, the plan 2.5")


@pytest.mark.parametrize(
    "accelerators",
    [
        {"nvidia-h100-80gb": "0.01"},
        {"nvidia-h100-80gb": "1", "nvidia-l4": {"amount": "3", "currency": "EUR"}},
    ],
)
def test_a_price_that_cannot_be_compared_decides_nothing(plan, prices, accelerators):
    _, document, _ = plan(*prices(accelerators=accelerators), spec=SMALL)
    assert document["plan"]["pool"]["name"] == "l4"


def test_without_a_price_file_no_cost_is_told(plan):
    assert "hourlyCost" not in plan(spec=SMALL)[1]["plan"]


def test_a_wrong_price_file_is_bad_input(plan, prices):
    code, _, error = plan(*prices(accelerators={"nvidia-l4": 3}))
    assert code == 2
    assert "accelerators" in error
