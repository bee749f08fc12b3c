"""Containers that cannot be made, are killed, take too long or end again and again."""

from __future__ import annotations

import re
from typing import Final

from gemma_operator.api.conditions import Reason
from gemma_operator.backends.kubernetes.containers import Container
from gemma_operator.backends.kubernetes.failures.trouble import Trouble, told
from gemma_operator.backends.kubernetes.snapshot import Replica

#: pkg/kubelet/kuberuntime/kuberuntime_container.go and pkg/kubelet/container/sync_result.go, 1.37.
_NOT_MADE: Final = frozenset(
    {
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
        "PreCreateHookError",
        "PreStartHookError",
        "PostStartHookError",
    }
)
#: The runtime's own words for a container that never ran (containerd, CRI-O).
_NEVER_RAN: Final = frozenset({"StartError", "ContainerCannotRun"})
#: pkg/kubelet/kubelet_pods.go and apimachinery's NewNotFound.
_NO_SECRET: Final = re.compile(r"secret \"[^\"]*\" not found|couldn't find key \S+ in Secret", re.IGNORECASE)
_CRASHES: Final = "CrashLoopBackOff"
#: A probe may come this much before its period is over.
_SLACK_SECONDS: Final = 5
_SIGNALS: Final = {134: "SIGABRT", 137: "SIGKILL", 139: "SIGSEGV", 143: "SIGTERM"}


def not_started(replica: Replica) -> Trouble | None:
    """Its node cannot make the container, or cannot start it."""
    for each in replica.containers:
        if each.waiting_reason in _NOT_MADE or each.terminated_reason in _NEVER_RAN:
            words = each.waiting_message if each.waiting_reason in _NOT_MADE else each.terminated_message
            what = f"{replica.whose(each)} cannot be made"
            if _NO_SECRET.search(words):
                return told(Reason.SECRET_MISSING, what, words)
            return told(Reason.CANNOT_START, what, words or each.waiting_reason)
    return None


def host_out_of_memory(replica: Replica) -> Trouble | None:
    """Only where Kubernetes says so: exit code 137 alone is any SIGKILL, of a probe that failed too often too."""
    for each in replica.containers:
        if each.terminated_reason == "OOMKilled":
            what = f"{replica.whose(each)} was killed for its use of host memory, by its limit or the node's"
            return told(Reason.HOST_OUT_OF_MEMORY, what, final=each.restarts > 1)
    return None


def too_slow(replica: Replica, budget_seconds: int | None) -> Trouble | None:
    """Ended after its start-up budget without ever having been ready: what the start-up probe does to it.

    Kubernetes says so in an Event alone; its pod shows a container that ran for as long as the probe allows. The exit
    code is no help: 143 is any SIGTERM in a start, and 137 stands there where the engine had to be killed.
    """
    ran = replica.ran_seconds
    if (
        budget_seconds is None
        or ran is None
        or replica.had_been_ready
        or ran < budget_seconds - _SLACK_SECONDS
    ):
        return None
    return told(
        Reason.STARTUP_BUDGET_EXCEEDED,
        f"the engine in pod {replica.name} had generated no token when its {budget_seconds} seconds to start were "
        "over, so the kubelet stopped it and starts it again",
    )


def crash_loop(replica: Replica) -> Trouble | None:
    """Anything else that ends, in its own last words."""
    for each in replica.containers:
        # between two ends too, or what is said would change with each of them
        silent = each.restarts > 1 and each.exit_code
        if each.waiting_reason == _CRASHES or silent or (each.restarts and each.terminated_message):
            what = f"{replica.whose(each)} ends again and again"
            return told(Reason.CRASH_LOOP, what, each.terminated_message or _exit(each), pod=replica.name)
    return None


def _exit(container: Container) -> str:
    name = _SIGNALS.get(container.exit_code or 0)
    return f"exit code {container.exit_code}{f' ({name})' if name else ''}"
