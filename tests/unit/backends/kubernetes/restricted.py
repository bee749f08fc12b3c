"""Pod Security's `restricted` level, check by check, as a test can ask it of a manifest.

The names are those of k8s.io/pod-security-admission v0.37.2, policy/check_*.go: every check of the level `restricted`
and those of `baseline` that it does not replace, at the newest version of each, for Linux pods outside user
namespaces. What the real plug-in says is asked elsewhere; this says which rule a rendered pod breaks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

Pod = Mapping[str, Any]
_VOLUMES: Final = frozenset(
    {
        *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image"),
        *("persistentVolumeClaim", "projected", "secret"),
    }
)
_SYSCTLS: Final = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_wmem",
    }
)
_SELINUX: Final = frozenset(
    {None, "", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
)


def broken(pod: Pod) -> list[str]:
    """The names of the checks that refuse a pod's spec."""
    return [name for name, allowed in CHECKS.items() if not allowed(pod)]


def _containers(pod: Pod) -> Iterator[Mapping[str, Any]]:
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        yield from pod.get(kind, ())


def _own(thing: Mapping[str, Any]) -> Mapping[str, Any]:
    return thing.get("securityContext") or {}


def _contexts(pod: Pod) -> Iterator[Mapping[str, Any]]:
    yield _own(pod)
    yield from map(_own, _containers(pod))


def _allow_privilege_escalation(pod: Pod) -> bool:
    return all(_own(each).get("allowPrivilegeEscalation") is False for each in _containers(pod))


def _app_armor_profile(pod: Pod) -> bool:
    types = {(context.get("appArmorProfile") or {}).get("type") for context in _contexts(pod)}
    return types <= {None, "RuntimeDefault", "Localhost"}


def _capabilities(pod: Pod) -> bool:
    own = [_own(each).get("capabilities") or {} for each in _containers(pod)]
    return all(
        "ALL" in each.get("drop", ()) and set(each.get("add", ())) <= {"NET_BIND_SERVICE"} for each in own
    )


def _host_namespaces(pod: Pod) -> bool:
    return not any(pod.get(name) for name in ("hostNetwork", "hostPID", "hostIPC"))


def _host_ports(pod: Pod) -> bool:
    return not any(port.get("hostPort") for each in _containers(pod) for port in each.get("ports", ()))


def _host_probes(pod: Pod) -> bool:
    handlers = [
        handler
        for each in _containers(pod)
        for handler in (
            *(each.get(name, {}) for name in ("livenessProbe", "readinessProbe", "startupProbe")),
            *each.get("lifecycle", {}).values(),
        )
    ]
    return not any(
        handler.get(kind, {}).get("host") for handler in handlers for kind in ("httpGet", "tcpSocket")
    )


def _privileged(pod: Pod) -> bool:
    return not any(_own(each).get("privileged") for each in _containers(pod))


def _proc_mount(pod: Pod) -> bool:
    return {_own(each).get("procMount") for each in _containers(pod)} <= {None, "Default"}


def _restricted_volumes(pod: Pod) -> bool:
    return all(_VOLUMES & set(volume) for volume in pod.get("volumes", ()))


def _run_as_non_root(pod: Pod) -> bool:
    by_pod = _own(pod).get("runAsNonRoot")
    return by_pod is not False and all(
        _own(each).get("runAsNonRoot", by_pod) is True for each in _containers(pod)
    )


def _run_as_user(pod: Pod) -> bool:
    return all(context.get("runAsUser") != 0 for context in _contexts(pod))


def _se_linux_options(pod: Pod) -> bool:
    options = [context.get("seLinuxOptions") or {} for context in _contexts(pod)]
    return all(
        each.get("type") in _SELINUX and not each.get("user") and not each.get("role") for each in options
    )


def _seccomp_profile(pod: Pod) -> bool:
    def said(thing: Mapping[str, Any]) -> str | None:
        return (_own(thing).get("seccompProfile") or {}).get("type")

    by_pod = said(pod)
    each = {said(container) or by_pod for container in _containers(pod)}
    return {by_pod} <= {None, "RuntimeDefault", "Localhost"} and each <= {"RuntimeDefault", "Localhost"}


def _sysctls(pod: Pod) -> bool:
    return {each["name"] for each in _own(pod).get("sysctls", ())} <= _SYSCTLS


def _windows_host_process(pod: Pod) -> bool:
    return not any((context.get("windowsOptions") or {}).get("hostProcess") for context in _contexts(pod))


CHECKS: Final[Mapping[str, Callable[[Pod], bool]]] = {
    "allowPrivilegeEscalation": _allow_privilege_escalation,
    "appArmorProfile": _app_armor_profile,
    "capabilities_restricted": _capabilities,
    "hostNamespaces": _host_namespaces,
    "hostPorts": _host_ports,
    "hostProbesAndHostLifecycle": _host_probes,
    "privileged": _privileged,
    "procMount_restricted": _proc_mount,
    "restrictedVolumes": _restricted_volumes,
    "runAsNonRoot": _run_as_non_root,
    "runAsUser": _run_as_user,
    "seLinuxOptions": _se_linux_options,
    "seccompProfile_restricted": _seccomp_profile,
    "sysctls": _sysctls,
    "windowsHostProcess": _windows_host_process,
}
