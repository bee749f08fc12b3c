"""Who the nodes and the API server are to each other: tokens, kubeconfigs and certificates of one cluster."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from engine.nodes.network import NODES
from gemma_operator.sandbox import identities, plane
from gemma_operator.sandbox.block import Block
from gemma_operator.sandbox.identities import Identity
from gemma_operator.sandbox.paths import StateFolder

PROXY = Identity("kube-proxy", "engine-stage:kube-proxy", ("system:masters",))
_KUBELETS = tuple(Identity(node.name, f"system:node:{node.name}", ("system:nodes",)) for node in NODES)
OTHERS = (*_KUBELETS, PROXY)


def add_tokens(folder: StateFolder) -> dict[str, str]:
    """Makes the API server know them too; the token of each."""
    tokens = {identity.key: os.urandom(24).hex() for identity in OTHERS}
    rows = (
        f'{tokens[identity.key]},{identity.user},{identity.key},"{",".join(identity.groups)}"\n'
        for identity in OTHERS
    )
    with (folder.path / "tokens.csv").open("a") as file:
        file.writelines(rows)
    return tokens


def write_kubeconfigs(folder: StateFolder, block: Block, tokens: dict[str, str]) -> None:
    """One for each of them."""
    for identity in OTHERS:
        folder.kubeconfig_of(identity.key).write_text(
            identities.kubeconfig(
                sandbox=folder.name,
                url=plane.url(block),
                certificate=folder.ca_file.read_bytes(),
                identity=identity,
                token=tokens[identity.key],
            )
        )


def write_client_certificates(certificates: Path) -> None:
    """By which kubelets know the API server, for `kubectl logs` and `exec`."""
    ca, key = certificates / "kubelet-ca.crt", certificates / "kubelet-ca.key"
    new = ["openssl", "req", "-newkey", "rsa:2048", "-nodes"]
    _run([*new, "-days", "2", "-x509", "-subj", "/CN=kubelet-clients", "-keyout", str(key), "-out", str(ca)])
    request, client = certificates / "kubelet-client.csr", certificates / "kubelet-client.key"
    masters = "/O=system:masters/CN=engine-stage:apiserver"
    _run([*new, "-subj", masters, "-keyout", str(client), "-out", str(request)])
    signed = ["openssl", "x509", "-req", "-in", str(request), "-CA", str(ca), "-CAkey", str(key)]
    _run([*signed, "-CAcreateserial", "-days", "2", "-out", str(certificates / "kubelet-client.crt")])


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"
