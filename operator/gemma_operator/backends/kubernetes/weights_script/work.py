"""Brings and looks. Runs inside the engine's image, where `huggingface_hub` is; the sources of a claim need none.

How it ended is one line of JSON, {"reason", "message"}, as the container's termination message, in words of our own: an
exception's text may hold a token or a signed URL.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import json
import os
import shutil
import signal
import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from gemma_operator.backends.kubernetes.weights_script.rules import (
    CA_BUNDLE,
    FINAL_EXIT,
    HEAD_BYTES,
    Refused,
    clean,
    disk_trouble,
    explained,
    header_bytes,
    lacking,
    mismatch,
    size_of,
    wanted,
)

#: Written last, into the folder: which commit lies there, and how long each file is.
MARK = ".gemma-operator.json"
INDEX = "model.safetensors.index.json"
Task = Mapping[str, Any]


def say(words: str) -> None:
    """A line of the container's log."""
    sys.stdout.write(f"weights: {words}\n")
    sys.stdout.flush()


def until_it_works(
    attempt: Callable[[], Any],
    task: Task,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Tries again what is worth it within the task's budget; a server's own Retry-After counts."""
    deadline, pause = clock() + task["budgetSeconds"], 2.0
    while True:
        try:
            attempt()
        except Exception as error:  # the client has many kinds of them, and others in each version
            refused = explained(error, task)
        else:
            return
        pause = max(pause, refused.wait_seconds)
        if not refused.passing or clock() + pause > deadline:
            raise refused from None
        say(f"{refused.message}; trying again in {pause:.0f} s")
        sleep(pause)
        pause = min(pause * 2, 60.0)


def bytes_in(folder: Path) -> int:
    """What lies there by now, unfinished files too."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.stat().st_size if path.is_file() else 0
    return total


@contextlib.contextmanager
def progress(folder: Path, total: int) -> Iterator[None]:
    """Says every ten seconds how far it is."""
    over = threading.Event()

    def tell() -> None:
        before = bytes_in(folder)
        while not over.wait(10):
            now = bytes_in(folder)
            say(f"{now / 1e9:.2f} of {total / 1e9:.2f} GB, {(now - before) / 1e7:.1f} MB/s")
            before = now

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()


@contextlib.contextmanager
def held(root: Path, folder: str) -> Iterator[None]:
    """One at a time brings the same weights to a volume; where it knows no locks, each goes on alone."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / f".{folder.replace('/', '-')}.lock").open("w") as lock:
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def complete(folder: Path) -> bool:
    """Whether everything lies there that was once brought."""
    try:
        files = json.loads((folder / MARK).read_text())["files"]
        return all((folder / name).stat().st_size == size for name, size in files.items())
    except (OSError, ValueError, KeyError):
        return False


def look(folder: Path, task: Task) -> None:
    """Refuses a folder that the engine could not load, or that is something else than what was planned."""
    try:
        names = [path.name for path in folder.iterdir() if path.is_file()]
    except OSError:
        raise Refused("WeightsMissing", f"{task['shown']} is no folder that can be read") from None
    need(lacking(names, drafter=bool(task.get("drafter"))), task)
    if INDEX in names:
        shards = set(json.loads((folder / INDEX).read_text()).get("weight_map", {}).values())
        need(", ".join(sorted(shards - set(names))[:2]), task)
    check(json.loads((folder / "config.json").read_text()), task, names)
    for name in sorted(names):
        if name.endswith(".safetensors") and wanted(name) and (why := torn(folder / name)):
            raise Refused("WeightsMissing", f"{task['shown']} holds {name}, {why}: copy it there again")


def torn(path: Path) -> str:
    """What of a file in safetensors is not there, by its own header: an engine would find out with its GPUs taken."""
    try:
        with path.open("rb") as file:
            length = header_bytes(file.read(HEAD_BYTES))
            size = size_of(json.loads(file.read(length)), length)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return "which does not begin as safetensors do (a pointer of git lfs, or a copy that was cut)"
    lies = path.stat().st_size
    return "" if lies == size else f"of which {lies} of {size} bytes lie there"


def need(missing: str, task: Task) -> None:
    """Says what is not there."""
    if missing:
        raise Refused("WeightsMissing", f"{task['shown']} lacks {missing}, without which no engine loads it")


def check(config: Mapping[str, Any], task: Task, names: list[str]) -> None:
    """Refuses what is no checkpoint of the plan."""
    if why := mismatch(config, task, names):
        words = f"{task['shown']} is not {task['variant']} in {task['precision']}: {why}"
        raise Refused("WeightsMismatch", words, final=True)


def trust() -> None:
    """Makes the hub's client trust the operator's certificates too.

    The variables that clients read replace what is trusted and add nothing, so both go into one file: SSL_CERT_FILE of
    httpx 0.28 (_config.py), httpcore2 2.16 (_ssl.py) and hf_xet 1.8, REQUESTS_CA_BUNDLE of requests 2.34
    (sessions.py). A mirror may send its clients on to public storage, whose authorities the image knows.
    """
    if not (own := os.environ.get(CA_BUNDLE, "")):
        return
    known = {ssl.get_default_verify_paths().cafile, "/etc/ssl/certs/ca-certificates.crt"}
    with contextlib.suppress(ImportError):
        known.add(importlib.import_module("certifi").where())
    # a file that the user named says what is trusted by itself
    known = {os.environ["SSL_CERT_FILE"]} if os.environ.get("SSL_CERT_FILE") else known
    texts = [
        Path(path).read_text(errors="replace") for path in sorted(filter(None, known)) if Path(path).is_file()
    ]
    with tempfile.NamedTemporaryFile("w", suffix=".pem", delete=False) as both:
        both.write("\n".join([own, *texts]))
    os.environ["SSL_CERT_FILE"] = os.environ["REQUESTS_CA_BUNDLE"] = both.name


def ask(task: Task) -> tuple[str, dict[str, int]]:
    """A repository's commit and files, once its config.json is that of the plan."""
    hub = importlib.import_module("huggingface_hub")
    info = hub.HfApi().model_info(task["repo"], revision=task.get("revision"), files_metadata=True)
    say(f"{task['repo']} is commit {info.sha}")
    files = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    need(lacking(files, drafter=bool(task.get("drafter"))), task)
    folder = str(Path(task["root"], task["folder"]))
    config = Path(hub.hf_hub_download(task["repo"], "config.json", revision=info.sha, local_dir=folder))
    check(json.loads(config.read_text()), task, list(files))
    return info.sha, files


def bring(task: Task) -> None:
    """Everything that the engine reads of a repository, once."""
    commit, listed = ask(task)
    folder = Path(task["root"], task["folder"])
    files = {name: size for name, size in listed.items() if wanted(name)}
    total = sum(files.values())
    missing, free = total - bytes_in(folder), shutil.disk_usage(folder).free
    if free < missing:
        room = f"{missing / 1e9:.1f} GB of {task['shown']} are to come and {free / 1e9:.1f} GB are free"
        raise Refused("DiskFull", f"the volume at {task['root']} is too small: {room}")
    with progress(folder, total):
        hub = importlib.import_module("huggingface_hub")
        hub.snapshot_download(
            task["repo"], revision=commit, local_dir=str(folder), allow_patterns=list(files)
        )
    look(folder, task)
    sizes = {name: (folder / name).stat().st_size for name in files}
    (folder / MARK).write_text(json.dumps({"commit": commit, "files": sizes}))
    say(f"{sum(sizes.values()) / 1e9:.2f} GB lie in {folder}")


def run(task: Task) -> None:
    """One task; raises Refused."""
    root, folder = Path(task["root"]), Path(task["root"], task["folder"])
    if task["task"] == "look":
        look(folder, task)
        return
    trust()
    os.environ["HF_TOKEN"] = clean(os.environ.get("HF_TOKEN", ""))
    if task["task"] == "ask":
        until_it_works(lambda: ask(task), task)
        return
    try:
        fetch(task)
        for also in task.get("also", ()):  # a drafter: it has the tokenizer of the model
            fetch({**task, "revision": None, "shape": {}, "drafter": True, **also, "shown": also["repo"]})
    except OSError as error:
        raise (disk_trouble(error, str(root)) or error) from None


def fetch(task: Task) -> None:
    """Brings a repository where it does not lie yet."""
    root, folder = Path(task["root"]), Path(task["root"], task["folder"])
    with held(root, task["folder"]):
        if complete(folder):
            say(f"{task['shown']} lies in {folder} already")
            look(folder, task)
        else:
            until_it_works(lambda: bring(task), task)


def main(text: str, *, log: str = "/dev/termination-log") -> int:
    """The exit code: 0, 1 where another try may do, 42 where none will."""
    try:
        run(json.loads(text))
    except Refused as refused:
        line = json.dumps({"reason": refused.reason, "message": refused.message})
        say(line)
        if Path(log).exists():  # the kubelet mounts it
            Path(log).write_text(line)
        return FINAL_EXIT if refused.final else 1
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))  # as process 1 it would pass it over
    sys.exit(main(sys.argv[1]))
