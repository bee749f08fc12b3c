"""What a pod gets where a key is asked for, and that it gets nothing elsewhere."""

import hashlib
import re
from pathlib import PurePosixPath

import pytest

from gemma_operator.api import names
from gemma_operator.api.owned import is_owned_argument
from gemma_operator.backends.kubernetes.render import RENDERER_VERSION, render
from gemma_operator.engines import access_middleware
from gemma_operator.engines.startup_probe import KEY_FILE
from gemma_operator.engines.vllm_flags import flags_of
from gemma_operator.settings import OperatorSettings
from plans import a_plan
from snapshots import ENGINE, UID, a_snapshot, a_spec

GUARDED = {"apiKey": {"secretKeyRef": {"name": "keys", "key": "chat"}}}
FOLDER = str(PurePosixPath(KEY_FILE).parent)


def template(*, probe_key="of-the-operator", **spec):
    manifests = render(
        a_spec(**spec),
        a_plan(),
        uid=UID,
        replicas=1,
        settings=OperatorSettings(),
        engine=ENGINE,
        probe_key=probe_key,
    )
    return next(made["spec"]["template"] for made in manifests if made["kind"] == "Deployment")


def container(**spec):
    (engine,) = template(**spec)["spec"]["containers"]
    return engine


def variables(**spec):
    return {variable["name"]: variable for variable in container(**spec)["env"]}


def volume(**spec):
    (found,) = [volume for volume in template(**spec)["spec"]["volumes"] if volume["name"] == "access"]
    return found["projected"]


def test_without_a_key_nothing_is_in_the_pod_and_the_operators_key_moves_nothing():
    assert template() == template(probe_key="another")
    assert template(access={"allowedNamespaces": ["web"]}) == template()
    assert f"{ENGINE.guard.file_name.removesuffix('.py')}.RequireKey" not in container()["args"]
    assert FOLDER not in variables()["PYTHONPATH"]["value"]


def test_another_guard_is_another_renderer_so_that_an_upgrade_restarts_no_engine():
    """Its text is in the pod: with the same version it would be taken for drift, and every guarded engine restarted.

    Where this fails count `RENDERER_VERSION` up, once between two versions of the operator, and write both down here.
    """
    guard = hashlib.sha256(ENGINE.guard.source.encode()).hexdigest()
    assert (RENDERER_VERSION, guard[:16]) == ("5", "30d4901a7c7d3aef")


def test_the_users_secret_is_mounted_and_a_key_that_is_taken_away_is_gone():
    secret = volume(access=GUARDED)["sources"][0]["secret"]
    assert secret == {"name": "keys", "items": [{"key": "chat", "path": "user.key"}], "optional": True}


def test_a_secret_that_is_missing_keeps_the_container_from_starting():
    (witness,) = [variable for variable in container(access=GUARDED)["env"] if "valueFrom" in variable]
    assert witness["valueFrom"] == {"secretKeyRef": {"name": "keys", "key": "chat"}}


def test_every_file_that_the_guard_and_the_start_up_probe_read_is_there():
    sources = volume(access=GUARDED)["sources"]
    paths = {item["path"] for source in sources for kind in source.values() for item in kind["items"]}
    assert paths == {access_middleware.USER_KEYS, access_middleware.PROBE_KEY_HASH, ENGINE.guard.file_name}
    (mount,) = [mount for mount in container(access=GUARDED)["volumeMounts"] if mount["name"] == "access"]
    assert mount == {"name": "access", "mountPath": FOLDER, "readOnly": True}
    assert f"{mount['mountPath']}/{access_middleware.USER_KEYS}" == KEY_FILE


def test_the_files_of_annotations_point_at_annotations_that_the_pod_has():
    made = template(access=GUARDED)
    items = volume(access=GUARDED)["sources"][1]["downwardAPI"]["items"]
    fields = [
        re.fullmatch(r"metadata\.annotations\['(.+)'\]", item["fieldRef"]["fieldPath"]) for item in items
    ]
    texts = [made["metadata"]["annotations"][field.group(1)] for field in fields]
    assert texts == [ENGINE.guard.source, hashlib.sha256(b"of-the-operator").hexdigest()]


def test_the_engine_is_told_to_ask_for_the_key():
    arguments = container(access=GUARDED)["args"]
    module = ENGINE.guard.file_name.removesuffix(".py")
    assert arguments[arguments.index("--middleware") + 1] == f"{module}.RequireKey"
    assert hasattr(access_middleware, "RequireKey")
    assert "--api-key" not in arguments
    assert variables(access=GUARDED)["PYTHONPATH"]["value"].split(":")[0] == FOLDER


@pytest.mark.parametrize("version", ["0.19.1", "0.20.0", "0.32", "0.33.0"])
def test_every_version_loads_a_middleware_and_no_user_can_name_another(version):
    assert "--middleware" in flags_of(version)
    assert is_owned_argument("--middleware")


def test_what_a_user_has_on_the_python_path_stays_behind_ours():
    engine = {"env": [{"name": "PYTHONPATH", "value": "/mine"}]}
    path = variables(access=GUARDED, serving={"engine": engine})["PYTHONPATH"]["value"].split(":")
    assert (path[0], path[-1]) == (FOLDER, "/mine")


def test_a_user_cannot_say_the_witness_away():
    plain = container(access=GUARDED)["env"]
    (witness,) = [variable["name"] for variable in plain if "valueFrom" in variable]
    engine = {"env": [{"name": witness, "value": "x"}]}
    assert container(access=GUARDED, serving={"engine": engine})["env"] == plain


def test_the_operators_key_is_nowhere_in_the_pod():
    assert "of-the-operator" not in repr(template(access=GUARDED))


def test_a_snapshot_does_not_show_the_operators_key():
    assert "of-the-operator" not in repr(a_snapshot(probe_key="of-the-operator"))


@pytest.mark.parametrize(
    "change",
    [
        {"probe_key": "another"},
        {"access": None},
        {"access": {"apiKey": {"secretKeyRef": {"name": "other", "key": "chat"}}}},
    ],
)
def test_what_the_guard_reads_is_part_of_what_rolls_pods(change):
    before = template(access=GUARDED)["metadata"]["annotations"][names.INTENT]
    spec = {"access": GUARDED, **change}
    spec = {key: value for key, value in spec.items() if value is not None}
    assert template(**spec)["metadata"]["annotations"][names.INTENT] != before


def test_a_pods_annotations_stay_far_below_what_kubernetes_takes():
    annotations = template(access=GUARDED)["metadata"]["annotations"]
    assert sum(len(key) + len(value) for key, value in annotations.items()) < 16 * 1024
