from gemma_operator.sandbox import podstatus
from gemma_operator.sandbox.podstatus import Ending

NOW = "2026-01-01T00:00:00Z"


def a_pod():
    return {
        "metadata": {"name": "chat-1", "namespace": "team", "uid": "u"},
        "spec": {"containers": [{"name": "engine"}, {"name": "proxy"}]},
    }


def _conditions(patch):
    return {entry["type"]: entry for entry in patch["status"]["conditions"]}


def test_a_pod_is_ready_only_with_its_engine():
    patch = podstatus.running(
        a_pod(), container="engine", started=True, ready=False, restarts=0, since=NOW, now=NOW
    )
    by_name = {status["name"]: status for status in patch["status"]["containerStatuses"]}
    assert by_name["engine"]["ready"] is False
    assert by_name["proxy"]["ready"] is True
    assert _conditions(patch)["Ready"]["status"] == "False"
    assert _conditions(patch)["Ready"]["message"] == "containers with unready status: [engine]"


def test_becoming_ready_takes_the_reason_away():
    patch = podstatus.running(
        a_pod(), container="engine", started=True, ready=True, restarts=2, since=NOW, now=NOW
    )
    ready = _conditions(patch)["Ready"]
    assert (ready["status"], ready["reason"], ready["message"]) == ("True", None, None)
    assert patch["status"]["containerStatuses"][0]["restartCount"] == 2


def test_a_crashed_container_waits_as_kubelet_says_it():
    patch = podstatus.ended(
        a_pod(),
        container="engine",
        ending=Ending(1, "Error", "ValueError: no"),
        restarts=1,
        since=NOW,
        now=NOW,
        back_off_seconds=10,
    )
    (status,) = patch["status"]["containerStatuses"]
    assert status["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    assert status["state"]["waiting"]["message"].startswith("back-off 10s restarting failed container=engine")
    assert status["state"]["running"] is None, "a strategic merge would keep the old state beside the new one"
    assert status["lastState"]["terminated"]["exitCode"] == 1
    assert status["lastState"]["terminated"]["message"] == "ValueError: no"


def test_a_long_log_is_cut_to_its_end():
    patch = podstatus.ended(
        a_pod(),
        container="engine",
        ending=Ending(1, "Error", "a" * 5000 + "end"),
        restarts=0,
        since=NOW,
        now=NOW,
        back_off_seconds=10,
    )
    message = patch["status"]["containerStatuses"][0]["lastState"]["terminated"]["message"]
    assert len(message) == podstatus.MESSAGE_BYTES
    assert message.endswith("end")


def test_the_first_crash_is_no_loop_yet():
    patch = podstatus.ended(
        a_pod(),
        container="engine",
        ending=Ending(1, "Error", "no"),
        restarts=0,
        since=NOW,
        now=NOW,
        back_off_seconds=0,
    )
    (status,) = patch["status"]["containerStatuses"]
    assert status["state"]["waiting"] is None
    assert status["state"]["terminated"] == status["lastState"]["terminated"]


def test_the_moment_of_a_condition_moves_with_its_status_alone():
    """As Kubernetes has it, and as the operator tells a container that had been ready from one that never was."""
    early, late = "2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z"
    stood = [{"type": "Ready", "status": "False", "lastTransitionTime": early}]
    pod = {"metadata": {}, "spec": {"containers": [{"name": "engine"}]}, "status": {"conditions": stood}}
    said = {"container": "engine", "started": True, "restarts": 0, "since": early, "now": late}
    for ready, moment in ((False, early), (True, late)):
        patch = podstatus.running(pod, ready=ready, **said)
        times = {each["type"]: each["lastTransitionTime"] for each in patch["status"]["conditions"]}
        assert times["Ready"] == moment


def test_of_a_container_that_ended_it_stays_known_how_while_it_runs_again():
    """containerStatuses is an atomic list (core/v1): what is not written anew is gone."""
    said = {"container": "engine", "restarts": 1, "since": NOW, "now": NOW}
    ended = podstatus.ended(a_pod(), ending=Ending(1, "Error", "no"), back_off_seconds=10, **said)
    runs = podstatus.running(a_pod(), started=False, ready=False, **said)
    assert podstatus.after(None, runs) is runs
    engine, proxy = podstatus.after(ended, runs)["status"]["containerStatuses"]
    assert engine["lastState"]["terminated"]["message"] == "no"
    assert engine["state"]["running"]
    assert "lastState" not in proxy
