import asyncio

from gemma_operator.sandbox import endpoints
from gemma_operator.sandbox.watching import cancel


def a_service(**spec):
    return {
        "metadata": {"name": "chat", "namespace": "team", "uid": "service-uid"},
        "spec": {
            "selector": {"app": "chat"},
            "ports": [{"name": "http", "port": 80, "targetPort": "http"}],
            **spec,
        },
    }


def a_pod(name="pod", *, ready=True, terminating=False, ip="127.10.128.7", labels=None, namespace="team"):
    metadata = {
        "name": name,
        "namespace": namespace,
        "uid": name,
        "labels": labels or {"app": "chat", "x": "y"},
    }
    if terminating:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    condition = {"type": "Ready", "status": "True" if ready else "False"}
    return {
        "metadata": metadata,
        "spec": {
            "nodeName": "n",
            "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8000}]}],
        },
        "status": {"phase": "Running", "podIP": ip, "conditions": [condition]},
    }


def test_a_ready_pod_is_an_endpoint_that_points_back_at_it():
    made = endpoints.slice_for(a_service(), [a_pod()])
    assert made["addressType"] == "FQDN"
    assert made["ports"] == [{"name": "http", "protocol": "TCP", "port": 8000}]
    (endpoint,) = made["endpoints"]
    assert endpoint["addresses"] == ["127-10-128-7.pod.sandbox"]
    assert endpoint["targetRef"] == {"kind": "Pod", "namespace": "team", "name": "pod", "uid": "pod"}
    assert endpoint["conditions"] == {"ready": True, "serving": True, "terminating": False}
    assert made["metadata"]["labels"]["kubernetes.io/service-name"] == "chat"
    assert made["metadata"]["ownerReferences"][0]["uid"] == "service-uid"


def test_a_terminating_pod_serves_and_is_not_ready():
    (endpoint,) = endpoints.slice_for(a_service(), [a_pod(terminating=True)])["endpoints"]
    assert endpoint["conditions"] == {"ready": False, "serving": True, "terminating": True}


def test_an_unready_pod_is_listed_as_such():
    (endpoint,) = endpoints.slice_for(a_service(), [a_pod(ready=False)])["endpoints"]
    assert endpoint["conditions"]["ready"] is False


def test_a_service_that_wants_unready_addresses_gets_them():
    service = a_service(publishNotReadyAddresses=True)
    (endpoint,) = endpoints.slice_for(service, [a_pod(ready=False)])["endpoints"]
    assert endpoint["conditions"]["ready"] is True


def test_others_are_left_out():
    others = [
        a_pod("a", labels={"app": "other"}),
        a_pod("b", namespace="elsewhere"),
        a_pod("c", ip=None),
    ]
    assert endpoints.slice_for(a_service(), others)["endpoints"] == []
    assert not endpoints.selects(a_service(selector=None), a_pod())
    assert not endpoints.selects(a_service(selector={"app": "chat", "tier": "gpu"}), a_pod())


async def test_what_did_not_change_is_not_written_again():
    written = asyncio.Queue()

    async def apply(path, body):
        await written.put((path, body))

    writer = endpoints.EndpointWriter(apply)
    task = asyncio.create_task(writer.run())
    writer.service_changed(a_service())
    writer.pod_changed(a_pod())
    path, body = await asyncio.wait_for(written.get(), 5)
    assert path.endswith("/namespaces/team/endpointslices/chat-sandbox")
    assert len(body["endpoints"]) == 1
    writer.pod_changed(a_pod())
    writer.pod_changed(a_pod("other", labels={"app": "other"}))
    writer.pod_changed(a_pod(ready=False))
    _, body = await asyncio.wait_for(written.get(), 5)
    assert body["endpoints"][0]["conditions"]["ready"] is False
    writer.pod_gone(a_pod())
    _, body = await asyncio.wait_for(written.get(), 5)
    assert body["endpoints"] == []
    assert written.empty()
    await cancel(task)
