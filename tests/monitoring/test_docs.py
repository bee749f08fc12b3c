"""What docs/metrics.md asks of Prometheus, asked of Prometheus' own rule tester."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from monitoring.server import tools_or_skip

PAGE = (Path(__file__).parents[2] / "docs/metrics.md").read_text()
TOKENS_A_SECOND, FREE_SHARE, COST_OF_A_MILLION = re.findall(r"```promql\n(.*?)\n```", PAGE, re.DOTALL)
(ALERT,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
CHAT = 'namespace="team",name="chat"'
POOL = 'source="group",pool="l4",accelerator="nvidia-l4"'


@pytest.fixture
def promtool(tmp_path):
    """Runs a test of the page's rules; what promtool says where it fails."""
    tool = tools_or_skip().promtool
    (tmp_path / "rules.yaml").write_text(ALERT)

    def run(test):
        file = tmp_path / "test.yaml"
        file.write_text(
            json.dumps({"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": [test]})
        )
        done = subprocess.run(
            [tool, "test", "rules", file], capture_output=True, text=True, check=False, timeout=60
        )
        return done.stdout + done.stderr if done.returncode else ""

    return run


def series(**values):
    return [{"series": name, "values": text} for name, text in values.items()]


def answers(query, labels, value):
    samples = [{"labels": f"{{{labels}}}", "value": value}]
    return {"expr": query, "eval_time": "60m", "exp_samples": samples}


def test_the_three_questions_have_the_answers_that_they_promise(promtool):
    inputs = {
        f"gemma_deployment_generation_tokens_total{{{CHAT}}}": "0+6000x60",
        f'gemma_deployment_cost_per_hour{{{CHAT},currency="USD"}}': "3.6x60",
        f'gemma_pool_accelerators{{{POOL},state="total"}}': "8x60",
        f'gemma_pool_accelerators{{{POOL},state="free"}}': "2x60",
        f'gemma_pool_accelerators{{{POOL.replace("l4", "none")},state="total"}}': "0x60",
        f'gemma_pool_accelerators{{{POOL.replace("l4", "none")},state="free"}}': "0x60",
    }
    questions = [
        answers(TOKENS_A_SECOND, CHAT, 100),
        answers(FREE_SHARE, 'source="group",pool="l4"', 0.25),
        answers(COST_OF_A_MILLION, f'{CHAT},currency="USD"', 10),
    ]
    said = promtool({"interval": "1m", "input_series": series(**inputs), "promql_expr_test": questions})
    assert said == ""


@pytest.mark.parametrize(
    ("healthy", "wanted", "fires"),
    [("0x10", "1x10", True), ("1x10", "1x10", False), ("0x10", "0x10", False), ("0 0 1 0x7", "1x10", False)],
    ids=["down", "well", "nothing wanted", "well in between"],
)
def test_the_alert_fires_for_an_endpoint_that_is_down_and_for_no_other(promtool, healthy, wanted, fires):
    inputs = {
        f'gemma_deployment_condition{{{CHAT},type="Healthy",status="True"}}': healthy,
        f'gemma_deployment_condition{{{CHAT},type="Ready",status="True"}}': "0x10",
        f'gemma_deployment_replicas{{{CHAT},state="wanted"}}': wanted,
        f'gemma_deployment_replicas{{{CHAT},state="missing"}}': "1x10",
    }
    alert = {
        "exp_labels": {
            "namespace": "team",
            "name": "chat",
            "type": "Healthy",
            "status": "True",
            "severity": "critical",
        },
        "exp_annotations": {
            "summary": "team/chat answers no request",
            "description": "kubectl -n team get gd chat says why.",
        },
    }
    expected = {"eval_time": "6m", "alertname": "GemmaEndpointDown", "exp_alerts": [alert] if fires else []}
    said = promtool({"interval": "1m", "input_series": series(**inputs), "alert_rule_test": [expected]})
    assert said == ""
