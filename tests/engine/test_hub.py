"""The stand-in hub, asked by the real `huggingface_hub` of the engine's environment."""

from __future__ import annotations

import asyncio
import contextlib
import filecmp
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from engine.model import environment, models
from engine.model.hub import GATED_REPO, REPO, REVISION, Fault, Hub
from engine.model.process import bringing
from gemma_operator.api.conditions import Reason
from gemma_operator.backends.kubernetes.failures.hub import read_word

pytestmark = pytest.mark.skipif(bool(environment.why_not()), reason=environment.why_not())

_MANIFEST = Path(__file__).parent / "manifests/tiny-from-hub.yaml"

#: Fetches, or prints the class and the status of what it got instead.
_FETCH = """
import json, sys
from huggingface_hub import snapshot_download
try:
    print(json.dumps({"folder": snapshot_download(sys.argv[1], revision=sys.argv[2])}))
except Exception as error:
    status = getattr(getattr(error, "response", None), "status_code", None)
    print(json.dumps({"kinds": [kind.__name__ for kind in type(error).__mro__], "status": status}))
"""


@pytest.fixture(scope="module")
def folder() -> Path:
    return models.folder(say=print) / models.TINY


@contextlib.asynccontextmanager
async def _served(hub: Hub) -> AsyncIterator[str]:
    runner = web.AppRunner(hub.application())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def _fetched(
    hub: Hub, home: Path, *, repo: str = REPO, revision: str = REVISION, token: str = ""
) -> dict[str, Any]:
    async with _served(hub) as address:
        given = {
            "HF_ENDPOINT": address,
            "HF_HOME": str(home),
            "HOME": str(home),
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        given |= {"PATH": os.environ["PATH"], "PYTHONPATH": str(environment.site_packages(say=print))}
        given |= {"HF_TOKEN": token} if token else {}
        process = await asyncio.create_subprocess_exec(
            environment.interpreter(),
            *("-c", _FETCH, repo, revision),
            env=given,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()[-2000:]
    answer: dict[str, Any] = json.loads(out.splitlines()[-1])
    return answer


async def _brought(
    hub: Hub, home: Path, *, budget_seconds: int, relents_after: int | None = None
) -> tuple[int, str]:
    """The exit code and the log of the container that brings the weights."""
    container = bringing(_MANIFEST)
    *command, text = container["command"]
    task = json.loads(text.replace('"/cache', f'"{home}/cache')) | {"budgetSeconds": budget_seconds}
    given = {each["name"]: each["value"].replace("/cache", f"{home}/cache") for each in container["env"]}
    async with _served(hub) as address:
        process = await asyncio.create_subprocess_exec(
            environment.interpreter(),
            *(*command[1:], json.dumps(task)),
            env=given | {"HF_ENDPOINT": address, "PYTHONPATH": str(environment.site_packages(say=print))},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        assert process.stdout is not None
        log = b""
        async for line in process.stdout:
            log += line
            if relents_after is not None and log.count(b"trying again in") >= relents_after:
                hub.fault = Fault.NONE
        return await process.wait(), log.decode()


def _is_whole(answer: dict[str, Any], folder: Path) -> bool:
    names = [path.name for path in folder.iterdir()]
    equal, _, _ = filecmp.cmpfiles(folder, answer["folder"], names, shallow=False)
    return sorted(equal) == sorted(names)


async def test_all_files_arrive(folder: Path, tmp_path: Path) -> None:
    answer = await _fetched(Hub(folder), tmp_path)
    assert _is_whole(answer, folder), answer


async def test_a_gated_repository_is_opened_by_its_token_alone(folder: Path, tmp_path: Path) -> None:
    hub = Hub(folder, fault=Fault.GATED)
    without = await _fetched(hub, tmp_path / "without")
    assert "GatedRepoError" in without["kinds"]
    assert without["status"] == 401
    assert (await _fetched(hub, tmp_path / "other", token="hf_somebody_else"))["status"] == 403
    assert _is_whole(await _fetched(hub, tmp_path / "with", token=hub.token), folder)


async def test_an_unknown_commit_is_told_as_such(folder: Path, tmp_path: Path) -> None:
    answer = await _fetched(Hub(folder), tmp_path, revision="0" * 40)
    assert "RevisionNotFoundError" in answer["kinds"]


async def test_a_repository_that_is_not_there_is_shown_as_such_to_who_has_a_token(
    folder: Path, tmp_path: Path
) -> None:
    missing = {"repo": "gemma-operator-tests/no-such"}
    told = await _fetched(Hub(folder), tmp_path, **missing, token=Hub.token)
    assert "RepositoryNotFoundError" in told["kinds"]
    assert told["status"] == 404
    assert (await _fetched(Hub(folder), tmp_path, **missing))["status"] == 401


async def test_a_repository_with_a_fault_stands_beside_one_without(folder: Path, tmp_path: Path) -> None:
    hub = Hub(folder)
    assert (await _fetched(hub, tmp_path / "troubled", repo=GATED_REPO))["status"] == 401
    assert _is_whole(await _fetched(hub, tmp_path / "sound"), folder)


async def test_a_hub_that_wants_fewer_requests_is_asked_again_in_its_own_time_and_then_named(
    folder: Path, tmp_path: Path
) -> None:
    """As the operator's container asks it: by the real client, with the reason that reaches the status."""
    hub = Hub(folder, fault=Fault.RATE_LIMITED, retry_after_seconds=3)
    code, log = await _brought(hub, tmp_path, budget_seconds=8)
    assert code == 1, "another try may do"
    reason, words = read_word(log) or (None, "")
    assert reason is Reason.HUB_RATE_LIMITED
    assert "429" in words
    assert "answers 429, too many requests from here: wait, or name a token; trying again in 3 s" in log
    assert len(hub.asked) > 1
    assert set(hub.asked) == {f"GET /api/models/{REPO}/revision/{REVISION}"}


async def test_the_weights_arrive_once_the_hub_takes_requests_again(folder: Path, tmp_path: Path) -> None:
    hub = Hub(folder, fault=Fault.RATE_LIMITED)
    code, log = await _brought(hub, tmp_path, budget_seconds=60, relents_after=2)
    assert code == 0, log
    assert "trying again in" in log
    assert _is_whole({"folder": str(tmp_path / "cache/weights" / REPO.replace("/", "--") / REVISION)}, folder)


async def test_a_broken_line_is_taken_up_where_it_broke(folder: Path, tmp_path: Path) -> None:
    hub = Hub(folder, fault=Fault.CUT)
    answer = await _fetched(hub, tmp_path)
    assert _is_whole(answer, folder), answer
    assert hub.asked.count(f"GET /{REPO}/resolve/{REVISION}/model.safetensors") == 2


async def test_a_slow_line_delivers_all_the_same(folder: Path, tmp_path: Path) -> None:
    answer = await _fetched(Hub(folder, fault=Fault.SLOW, bytes_per_second=16 * 1024 * 1024), tmp_path)
    assert _is_whole(answer, folder), answer
