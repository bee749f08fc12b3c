import pytest

from gemma_operator.sandbox.simulator import instructions
from gemma_operator.sandbox.simulator.instructions import PREFIX, Fault, Orders, Words


def a_pod(*args, annotations=None, command=None, ports=None):
    container = {"name": "engine", "args": list(args), "command": command, "ports": ports or []}
    return {"metadata": {"annotations": annotations}, "spec": {"containers": [{"name": "proxy"}, container]}}


def test_a_servers_arguments_are_read_in_both_spellings():
    read = instructions.server_arguments(
        a_pod(
            "--model", "google/g", "--served-model-name", "a", "b", "--max-model-len=4096", "--max_num_seqs=8"
        )
    )
    assert read is not None
    assert (read.container, read.names, read.max_model_len, read.max_num_seqs) == (
        "engine",
        ("a", "b"),
        4096,
        8,
    )


def test_the_model_is_the_name_where_no_other_is_given():
    read = instructions.server_arguments(a_pod("google/g", "--port", "9000", command=["vllm", "serve"]))
    assert read is not None
    assert (read.names, read.port) == (("google/g",), 9000)


def test_the_port_is_the_one_called_http():
    ports = [{"name": "other", "containerPort": 1}, {"name": "http", "containerPort": 8100}]
    read = instructions.server_arguments(a_pod("--served-model-name=a", ports=ports))
    assert read is not None
    assert read.port == 8100


def test_a_pod_without_a_server_has_none():
    assert instructions.server_arguments(a_pod("--sleep")) is None


def test_annotations_are_orders():
    given = {
        "sandbox.gemma-operator.io/startup-seconds": "2.5",
        "sandbox.gemma-operator.io/fault": "no-token",
        "sandbox.gemma-operator.io/kv-cache-tokens": "1000",
        "else/fault": "refused",
    }
    assert instructions.orders(a_pod(annotations=given)) == Orders(
        startup_seconds=2.5, fault=Fault.NO_TOKEN, kv_cache_tokens=1000
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("startup-seconds", "soon"),
        ("startup-seconds", "-1"),
        ("token-seconds", "nan"),
        ("token-seconds", "inf"),
        ("fault", "broken"),
        ("kv-cache-tokens", "0"),
        ("typo", "1"),
    ],
)
def test_an_order_that_cannot_be_read_has_no_effect_and_is_said(key, value):
    read = instructions.orders(a_pod(annotations={f"sandbox.gemma-operator.io/{key}": value}))
    assert len(read.unreadable) == 1
    assert f"{key}={value}" in read.unreadable[0]
    assert read == Orders(unreadable=read.unreadable)


def test_a_refusal_is_in_vllms_own_words():
    text = Orders(memory_needed_gib=10, memory_available_gib=5).refusal(8192)
    assert text.startswith(
        "ValueError: To serve at least one request with the model's max seq len (8192), (10.00 GiB KV cache "
        "is needed, which is larger than the available KV cache memory (5.00 GiB). Based on the available "
        "memory, the estimated maximum model length is 4096."
    )


def told(orders):
    return a_pod(annotations={f"{PREFIX}{key}": value for key, value in orders.items()})


def test_a_container_may_be_told_how_it_ends_and_why_it_waits():
    said = '{"exitCode": 137, "reason": "Error", "message": "m", "ranSeconds": 640}'
    read = instructions.orders(told({"ends-with": said, "waits-with": '{"reason": "ErrImagePull"}'}))
    assert read.ends_with == Words("Error", "m", 137, 640)
    assert read.waits_with == Words("ErrImagePull")


def test_words_without_a_reason_are_named_and_have_no_effect():
    read = instructions.orders(told({"ends-with": "[]", "waits-with": '{"message": "x"}'}))
    assert (read.ends_with, read.waits_with, len(read.unreadable)) == (None, None, 2)
