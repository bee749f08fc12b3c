"""The script that brings and looks, run as the pod runs it: one text for `python3 -c`, with a hub's client made up."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gemma_operator.api.conditions import Reason
from gemma_operator.backends.kubernetes.weights_script import SCRIPT, rules, work
from unit.backends.kubernetes.test_weights_rules import a_config, planned

#: As much of huggingface_hub as the script asks for: a repository that is a folder, and what a test tells it to refuse.
CLIENT = """
import json, os, pathlib, shutil
ORIGIN = pathlib.Path(os.environ["ORIGIN"])
class Answer:
    def __init__(self, status): self.status_code, self.headers = status, {}
class HfHubHTTPError(OSError):
    def __init__(self, status): self.response = Answer(status)
class GatedRepoError(HfHubHTTPError): pass
class File:
    def __init__(self, path): self.rfilename, self.size = path.name, path.stat().st_size
class Info:
    sha = "f" * 40
    siblings = [File(path) for path in sorted(ORIGIN.iterdir())]
def refuse():
    told = pathlib.Path(os.environ["TOLD"])
    left = told.read_text().split() if told.exists() else []
    if left:
        told.write_text(" ".join(left[1:]))
        raise (GatedRepoError(403) if left[0] == "gated" else HfHubHTTPError(int(left[0])))
class HfApi:
    def model_info(self, repo, *, revision, files_metadata):
        refuse()
        return Info
def hf_hub_download(repo, name, *, revision, local_dir):
    os.makedirs(local_dir, exist_ok=True)
    return shutil.copy(ORIGIN / name, pathlib.Path(local_dir) / name)
def snapshot_download(repo, *, revision, local_dir, allow_patterns):
    for name in allow_patterns:
        shutil.copy(ORIGIN / name, pathlib.Path(local_dir) / name)
"""


def in_safetensors(*lengths, metadata=True):
    """A file of tensors of these lengths in bytes, one behind the other."""
    header = {"__metadata__": {"format": "pt"}} if metadata else {}
    for number, length in enumerate(lengths):
        start = sum(lengths[:number])
        header[f"t{number}"] = {"dtype": "U8", "shape": [length], "data_offsets": [start, start + length]}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(sum(lengths))


WEIGHTS = in_safetensors(7, 5)
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"


class Pod:
    """One container that runs the script."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.origin, self.volume, self.told = folder / "origin", folder / "volume", folder / "told"
        self.volume.mkdir()
        (folder / "huggingface_hub.py").write_text(CLIENT)
        self.holds(a_config("E4B"))

    def holds(self, config, *, shards=("model.safetensors",), tokenizer=True):
        self.origin.mkdir(exist_ok=True)
        (self.origin / "config.json").write_text(json.dumps(config))
        (self.origin / "README.md").write_text("not read")
        if tokenizer:
            (self.origin / "tokenizer.json").write_text("{}")
        for shard in shards:
            (self.origin / shard).write_bytes(WEIGHTS)

    def runs(self, task="fetch", *, refusals="", token="", **changes):
        self.told.write_text(refusals)
        asked = {
            **planned("E4B"),
            "task": task,
            "repo": "acme/tuned",
            "root": str(self.volume),
            "folder": "acme--tuned/main",
            "shown": "acme/tuned",
            "budgetSeconds": 20,
            **changes,
        }
        # no kubelet mounts /dev/termination-log here: the log's last line says the same
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, json.dumps(asked)],
            env={
                "PYTHONPATH": str(self.folder),
                "ORIGIN": str(self.origin),
                "TOLD": str(self.told),
                "HF_TOKEN": token,
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.stderr == ""
        lines = done.stdout.splitlines()
        said = json.loads(lines[-1].removeprefix("weights: ")) if done.returncode else {}
        return done.returncode, said.get("reason", ""), done.stdout

    @property
    def brought(self):
        folder = self.volume / "acme--tuned/main"
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.fixture
def pod(tmp_path):
    return Pod(tmp_path)


def test_what_the_engine_reads_is_brought_and_marked(pod):
    code, _, log = pod.runs()
    assert code == 0, log
    assert pod.brought == [work.MARK, "config.json", "model.safetensors", "tokenizer.json"]
    assert "acme/tuned is commit " + "f" * 40 in log


def test_the_second_time_nobody_is_asked(pod):
    pod.runs()
    code, _, log = pod.runs(refusals="500 500 500")
    assert code == 0
    assert "lies in" in log


def test_a_file_that_was_cut_is_brought_again(pod):
    pod.runs()
    (pod.volume / "acme--tuned/main/model.safetensors").write_bytes(b"w")
    assert pod.runs()[0] == 0
    assert (pod.volume / "acme--tuned/main/model.safetensors").read_bytes() == WEIGHTS


def test_a_server_error_is_waited_out(pod):
    code, _, log = pod.runs(refusals="503")
    assert code == 0
    assert "answers 503" in log


@pytest.mark.parametrize(
    ("refusals", "token", "code", "reason"),
    [
        ("gated", "", 1, "WeightsGated"),
        ("401", "", 42, "WeightsMissing"),
        ("401", "hf_x", 1, "CredentialInvalid"),
        ("404", "", 42, "WeightsMissing"),
    ],
)
def test_what_waiting_does_not_help_is_told_at_once(pod, refusals, token, code, reason):
    assert pod.runs(refusals=refusals, token=token)[:2] == (code, reason)


def test_a_limit_that_outlasts_the_budget_is_told(pod):
    assert pod.runs(refusals="429 429", budgetSeconds=1)[:2] == (1, "HubRateLimited")


def test_another_variant_is_refused_before_its_weights_are_brought(pod):
    pod.holds(a_config("31B"))
    code, reason, _ = pod.runs()
    assert (code, reason) == (42, "WeightsMismatch")
    assert "model.safetensors" not in pod.brought


def test_a_token_with_a_break_in_it_asks_nobody(pod):
    code, reason, log = pod.runs(token="hf_one\nhf_two")
    assert (code, reason) == (1, "CredentialMalformed")
    assert "hf_one" not in log


def test_asking_brings_the_config_alone(pod):
    assert pod.runs("ask")[0] == 0
    assert pod.brought == ["config.json"]


def test_a_repository_without_a_tokenizer_is_told(pod):
    (pod.origin / "tokenizer.json").unlink()
    assert pod.runs("ask")[:2] == (1, "WeightsMissing")


def look(pod, folder="origin", **changes):
    (pod.folder / "huggingface_hub.py").unlink()
    return pod.runs(
        "look", root=str(pod.folder), folder=folder, shown="claim models, folder tuned", **changes
    )


def test_a_claim_is_looked_at_without_the_hub_s_client(pod):
    assert look(pod)[0] == 0


def test_a_folder_that_is_not_there_is_told(pod):
    code, reason, log = look(pod, folder="nowhere")
    assert (code, reason) == (1, "WeightsMissing")
    assert "claim models, folder tuned" in log


def test_a_missing_shard_is_named(pod):
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (pod.origin / work.INDEX).write_text(json.dumps(index))
    pod.holds(a_config("E4B"), shards=("model-1.safetensors",))
    code, reason, log = look(pod)
    assert (code, reason) == (1, "WeightsMissing")
    assert "lacks model-2.safetensors" in log


@pytest.mark.parametrize(
    "whole",
    [WEIGHTS, in_safetensors(), in_safetensors(3, metadata=False)],
    ids=["two", "none", "no metadata"],
)
def test_a_file_that_its_tensors_fill_is_whole(pod, whole):
    (pod.origin / "model.safetensors").write_bytes(whole)
    assert look(pod)[0] == 0


@pytest.mark.parametrize("there", [len(WEIGHTS) - 1, len(WEIGHTS) - 12, len(WEIGHTS) + 1])
def test_weights_that_were_copied_in_part_are_told_before_a_gpu_is_used(pod, there):
    (pod.origin / "model.safetensors").write_bytes((WEIGHTS + b"?")[:there])
    code, reason, log = look(pod)
    assert (code, reason) == (1, "WeightsMissing")
    assert (
        f"model.safetensors, of which {there} of {len(WEIGHTS)} bytes lie there: copy it there again" in log
    )


@pytest.mark.parametrize(
    "torn", [b"", b"\x08", WEIGHTS[:8], WEIGHTS[:40], POINTER, (2).to_bytes(8, "little") + b"[]"]
)
def test_what_does_not_begin_as_safetensors_do_is_told(pod, torn):
    (pod.origin / "model.safetensors").write_bytes(torn)
    code, reason, log = look(pod)
    assert (code, reason) == (1, "WeightsMissing")
    assert "model.safetensors, which does not begin as safetensors do (a pointer of git lfs" in log


def test_weights_of_another_format_beside_them_are_not_looked_at(pod):
    (pod.origin / "consolidated.safetensors").write_bytes(b"")
    assert look(pod)[0] == 0


def test_own_weights_in_another_precision_are_told(pod):
    pod.holds({**a_config("E4B"), "quantization_config": {"quant_method": "fp8"}})
    assert look(pod, quantised=False)[:2] == (42, "WeightsMismatch")


def test_every_reason_that_a_pod_may_tell_is_one_of_the_closed_list():
    told = set(re.findall(r'"([A-Z][A-Za-z]+)"', SCRIPT))
    known = {reason.value for reason in Reason}
    for reason in ("WeightsGated", "WeightsMissing", "DiskFull", "ClaimUnsuitable", "HubUnreachable"):
        assert reason in told
    assert {
        word for word in told if word.startswith(("Weights", "Hub", "Credential", "Claim", "Disk"))
    } <= known


def test_waiting_grows_and_a_server_s_own_word_counts():
    slept, now = [], [0.0]

    def sleep(seconds):
        slept.append(seconds)
        now[0] += seconds

    def attempt():
        wait = 90.0 if len(slept) == 2 else 0.0
        raise rules.Refused("HubRateLimited", "429", passing=True, wait_seconds=wait)

    with pytest.raises(rules.Refused):
        work.until_it_works(attempt, {"budgetSeconds": 300, "root": ""}, clock=lambda: now[0], sleep=sleep)
    assert slept == [2.0, 4.0, 90.0, 60.0, 60.0, 60.0]


def test_the_last_word_is_the_termination_message(tmp_path):
    task = {**planned("E4B"), "task": "look", "root": str(tmp_path), "folder": "x", "shown": "claim w"}
    (tmp_path / "log").touch()
    assert work.main(json.dumps(task), log=str(tmp_path / "log")) == 1
    assert json.loads((tmp_path / "log").read_text())["reason"] == "WeightsMissing"
