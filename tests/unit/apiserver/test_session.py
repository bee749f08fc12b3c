"""The shared session: one for kopf and us, another after a 401, all closed in the end."""

from __future__ import annotations

import asyncio
import json

import pytest

from gemma_operator.apiserver import credentials
from gemma_operator.apiserver.credentials import TokenFile, from_kubeconfig, in_cluster, source
from gemma_operator.apiserver.session import SessionHolder
from gemma_operator.errors import UsageError


async def test_kopf_gets_the_session_that_we_use(holder):
    ours = await holder.current()
    assert await holder.for_kopf() is ours


async def test_kopf_asking_again_gets_a_new_one_that_we_use_too(holder):
    first = await holder.for_kopf()
    second = await holder.for_kopf()
    assert second is not first
    assert await holder.current() is second
    assert first.closed


async def test_many_callers_with_one_stale_session_make_one_new_one(holder):
    stale = await holder.current()
    fresh = await asyncio.gather(*(holder.renew(stale) for _ in range(5)))
    assert len(set(fresh)) == 1
    assert fresh[0] is not stale


async def test_a_session_that_kopf_still_has_is_not_closed_by_our_renewal(holder):
    kopfs = await holder.for_kopf()
    await holder.renew(kopfs)
    assert not kopfs.closed


async def test_close_closes_every_session(api):
    holder = SessionHolder(api.connection)
    first = await holder.for_kopf()
    second = await holder.renew(first)
    await holder.close()
    assert first.closed
    assert second.closed


async def test_a_renewed_token_file_is_read_without_a_new_login(tmp_path):
    now = [0.0]
    path = tmp_path / "token"
    path.write_text("one\n")
    token = TokenFile(path, clock=lambda: now[0])
    assert await token() == "Bearer one"
    path.write_text("two\n")
    assert await token() == "Bearer one"
    now[0] = 61.0
    assert await token() == "Bearer two"
    path.unlink()
    now[0] = 200.0
    assert await token() == "Bearer two"


async def test_in_a_pod_the_address_comes_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")
    (tmp_path / "ca.crt").write_text("")
    with pytest.raises(UsageError, match=r"ca\.crt"):
        in_cluster(tmp_path)


def a_kubeconfig(path, *, server="http://127.0.0.1:1", user=None):
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": user if user is not None else {"token": "abc"}}],
    }
    path.write_text(json.dumps(config))
    return str(path)


async def test_a_kubeconfig_gives_server_and_token(tmp_path):
    connection = from_kubeconfig(a_kubeconfig(tmp_path / "config", server="http://127.0.0.1:8001/"))
    assert connection.server == "http://127.0.0.1:8001"
    assert await connection.authorization() == "Bearer abc"


async def test_a_user_without_a_token_sends_none(tmp_path):
    connection = from_kubeconfig(a_kubeconfig(tmp_path / "config", user={}))
    assert await connection.authorization() == ""


async def test_an_exec_plugin_gives_the_token_and_is_asked_again_before_it_expires(tmp_path):
    plugin = tmp_path / "plugin"
    count = tmp_path / "count"
    plugin.write_text(
        "#!/bin/sh\n"
        f"echo x >> {count}\n"
        'printf \'{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential",'
        '"status":{"token":"t%s","expirationTimestamp":"2020-01-01T00:00:00Z"}}\' '
        f"$(grep -c x {count})\n"
    )
    plugin.chmod(0o755)
    user = {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": str(plugin),
            "interactiveMode": "Never",
        }
    }
    connection = from_kubeconfig(a_kubeconfig(tmp_path / "config", user=user))
    assert await connection.authorization() == "Bearer t1"
    connection.authorization._look_again_at = float("-inf")
    assert await connection.authorization() == "Bearer t2"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "config"),
        ("not: [closed", "config"),
        ("[]", "config"),
        ('{"apiVersion": "v1"}', "current-context|contexts"),
    ],
)
def test_a_broken_kubeconfig_is_one_clear_line(tmp_path, content, words):
    path = tmp_path / "config"
    path.write_text(content)
    with pytest.raises(UsageError, match=words) as caught:
        from_kubeconfig(str(path))
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_kubeconfig_says_what_to_give():
    with pytest.raises(UsageError, match=r"no kubeconfig /nowhere/config: give --kubeconfig"):
        source(kubeconfig="/nowhere/config")()


def test_an_unknown_context_is_named(tmp_path):
    with pytest.raises(UsageError, match="there"):
        from_kubeconfig(a_kubeconfig(tmp_path / "config"), context="there")


def test_a_server_that_is_no_address_is_refused(tmp_path):
    with pytest.raises(UsageError, match="not an http"):
        from_kubeconfig(a_kubeconfig(tmp_path / "config", server="ftp://x"))


def test_a_pods_credentials_come_before_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setattr(credentials, "SERVICE_ACCOUNT", tmp_path)
    (tmp_path / "token").write_text("t")
    assert source() is in_cluster
    assert source(kubeconfig="/x") is not in_cluster
