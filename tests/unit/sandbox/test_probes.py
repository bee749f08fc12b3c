import pytest

from gemma_operator.sandbox import probes

BODY = '{"model": "chat", "prompt": "hi", "max_tokens": 1}'


def test_the_operators_start_up_probe_is_understood():
    container = {
        "startupProbe": {
            "exec": {"command": ["python3", "-c", "SCRIPT", "/v1/completions", BODY]},
            "periodSeconds": 5,
            "failureThreshold": 120,
            "timeoutSeconds": 4,
        }
    }
    probe = probes.startup(container)
    assert (probe.path, probe.body) == ("/v1/completions", BODY)
    assert (probe.period_seconds, probe.failure_threshold, probe.timeout_seconds) == (5, 120, 4)


def test_readiness_stands_in_where_there_is_no_start_up_probe():
    container = {
        "ports": [{"name": "http", "containerPort": 9000}],
        "readinessProbe": {"httpGet": {"path": "/health", "port": "http"}},
    }
    probe = probes.startup(container)
    assert (probe.path, probe.body, probe.port) == ("/health", None, 9000)


def test_without_a_probe_there_is_nothing_to_ask():
    assert probes.startup({}).path is None


@pytest.mark.parametrize(
    ("answer", "generated"),
    [
        ({"usage": {"completion_tokens": 1}, "choices": []}, True),
        ({"choices": [{"text": "a"}]}, True),
        ({"choices": [{"message": {"content": "a"}}]}, True),
        ({"usage": {"completion_tokens": 0}, "choices": [{"message": {"content": None}}]}, False),
        ({"choices": [{"text": ""}]}, False),
        ({"choices": []}, False),
        ({"error": {"code": 404}}, False),
        ([], False),
        ("no", False),
    ],
)
def test_only_a_generated_token_counts(answer, generated):
    assert probes.token_was_generated(answer) is generated


def test_liveness_has_patience():
    assert probes.patience_seconds({"livenessProbe": {"periodSeconds": 10, "failureThreshold": 6}}) == 60
    assert probes.patience_seconds({}) is None
