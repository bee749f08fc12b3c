"""Who may speak to a sandbox's API server: one token an identity, so that the audit log tells them apart."""

from __future__ import annotations

import base64
import csv
import io
import json
import secrets
from dataclasses import dataclass

_OPERATOR_USER = "system:serviceaccount:gemma-system:gemma-operator"


@dataclass(frozen=True, slots=True)
class Identity:
    """A user of the API server and the name under which its files are kept."""

    key: str
    user: str
    groups: tuple[str, ...]


ADMIN = Identity("admin", "admin", ("system:masters",))
OPERATOR = Identity(
    "operator",
    _OPERATOR_USER,
    ("system:serviceaccounts", "system:serviceaccounts:gemma-system", "system:authenticated"),
)
CONTROLLER_MANAGER = Identity("kube-controller-manager", "system:kube-controller-manager", ())
SCHEDULER = Identity("kube-scheduler", "system:kube-scheduler", ())
KWOK = Identity("kwok", "sandbox:kwok", ("system:masters",))
DAEMON = Identity("daemon", "sandbox:daemon", ("system:masters",))

ALL = (ADMIN, OPERATOR, CONTROLLER_MANAGER, SCHEDULER, KWOK, DAEMON)


def new_tokens() -> dict[str, str]:
    """A fresh secret for each identity."""
    return {identity.key: secrets.token_urlsafe(32) for identity in ALL}


def token_file(tokens: dict[str, str]) -> str:
    """What kube-apiserver reads with --token-auth-file: token,user,uid,"group,group"."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for identity in ALL:
        row = [tokens[identity.key], identity.user, identity.key]
        writer.writerow([*row, ",".join(identity.groups)] if identity.groups else row)
    return text.getvalue()


def kubeconfig(*, sandbox: str, url: str, certificate: bytes, identity: Identity, token: str) -> str:
    """A kubeconfig with everything inside, so that it can be copied anywhere on this machine."""
    context = f"gemma-operator-sandbox-{sandbox}"
    user = f"{context}-{identity.key}"
    cluster = {"server": url, "certificate-authority-data": base64.b64encode(certificate).decode()}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": context,
        "clusters": [{"name": context, "cluster": cluster}],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": context, "context": {"cluster": context, "user": user}}],
    }
    return json.dumps(document, indent=1)  # JSON is yaml, and every kubeconfig reader takes yaml
