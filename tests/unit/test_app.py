"""What is tied to the Lease: who does not lead holds nothing but the tables."""

from __future__ import annotations

from gemma_operator.app import Operator
from gemma_operator.backends.kubernetes.snapshot import Key
from gemma_operator.metrics.registry import DeploymentView
from gemma_operator.settings import OperatorSettings
from unit.controller.builders import a_gd


def no_server():
    raise AssertionError("nothing is asked of a server")


async def test_a_standby_collects_no_keys_and_looks_at_everything_when_it_leads():
    """Names that come and go for months are no memory of its own: nothing is known of them but what the tables hold."""
    operator = Operator(OperatorSettings(), source=no_server)
    chat = a_gd("chat")
    operator.watch.deployments.put_answer(chat)
    operator.watch.deployments.put_answer(a_gd("gone"))
    operator.watch.deployments.take("DELETED", a_gd("gone", metadata={"resourceVersion": "11"}))
    assert len(operator.queue) == 0
    operator._election._lead(True)
    assert len(operator.queue) == 1
    assert await operator.queue.get() == Key("team", "chat")


async def test_who_leads_no_more_forgets_what_was_learnt_of_deployments():
    operator, chat = Operator(OperatorSettings(), source=no_server), Key("team", "chat")
    operator._election._lead(True)
    operator._reconciler._remember(chat, "uid")
    operator.metrics.deployment(chat, DeploymentView())
    assert b"gemma_deployment_info" in operator.metrics.exposition()
    operator._election._lead(False)
    operator._election._lead(True)
    assert b'name="chat"' not in operator.metrics.exposition()
