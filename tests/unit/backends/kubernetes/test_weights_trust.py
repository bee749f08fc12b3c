"""Certificates of the operator's own: the script of a pod, as it is sent, before a hub that speaks TLS."""

import http.server
import json
import os
import shutil
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import certifi
import pytest

from gemma_operator.backends.kubernetes.weights_script import SCRIPT
from gemma_operator.backends.kubernetes.weights_script.rules import CA_BUNDLE
from unit.backends.kubernetes.test_weights_rules import a_config, planned

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificates")

#: A client that asks as all of them do: by OpenSSL, which reads SSL_CERT_FILE; it tells what it was left to trust.
CLIENT = """
import json, os, pathlib, ssl, urllib.request
class File:
    size = 2
    def __init__(self, name): self.rfilename = name
class Info:
    sha = "f" * 40
    siblings = [File(name) for name in ("config.json", "tokenizer.json", "model.safetensors")]
class HfApi:
    def model_info(self, repo, *, revision, files_metadata):
        urllib.request.urlopen(os.environ["HF_ENDPOINT"]).read()
        return Info
def hf_hub_download(repo, name, *, revision, local_dir):
    told = {"env": os.environ["SSL_CERT_FILE"] == os.environ["REQUESTS_CA_BUNDLE"],
            "roots": len(ssl.create_default_context().get_ca_certs())}
    pathlib.Path(os.environ["TOLD"]).write_text(json.dumps(told))
    path = pathlib.Path(local_dir, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(os.environ["CONFIG"])
    return str(path)
"""


class Silent(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Of 127.0.0.1, signed by itself; and its key."""
    folder = tmp_path_factory.mktemp("authority")
    made, key = folder / "cert.pem", folder / "key.pem"
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    named = ["-days", "2", "-subj", "/CN=hub", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*new, *named, "-keyout", key, "-out", made], check=True, capture_output=True)
    return made, key


@pytest.fixture
def hub(certificate):
    """The address of a server that nobody knows but who trusts `certificate`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Silent) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"https://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def asked(folder, hub, **environment):
    """The script's exit code, what it said last, and what its client told."""
    (folder / "huggingface_hub.py").write_text(CLIENT)
    task = {**planned("E4B"), "task": "ask", "repo": "acme/tuned", "shown": "acme/tuned", "budgetSeconds": 20}
    task |= {"root": str(folder / "root"), "folder": "acme--tuned/main"}
    told = folder / "told"
    given = {"HF_ENDPOINT": hub, "TOLD": str(told), "CONFIG": json.dumps(a_config("E4B"))}
    path = os.pathsep.join([str(folder), str(Path(certifi.__file__).parents[1])])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(task)],
        env={"PYTHONPATH": path, "TMPDIR": str(folder), **given, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    return done.returncode, done.stdout, json.loads(told.read_text()) if told.exists() else {}


def test_without_the_bundle_the_hub_is_not_trusted_and_the_words_name_the_setting(tmp_path, hub):
    code, log, _ = asked(tmp_path, hub)
    said = json.loads(log.splitlines()[-1].removeprefix("weights: "))
    assert (code, said["reason"]) == (1, "HubUnreachable")
    assert "caBundle" in said["message"]
    assert hub in said["message"]
    assert "trying again" not in log, "waiting signs no certificate"


def test_with_the_bundle_it_is_trusted_and_so_is_whom_the_image_trusts(tmp_path, hub, certificate):
    code, log, told = asked(tmp_path, hub, **{CA_BUNDLE: certificate[0].read_text()})
    assert code == 0, log
    assert told["env"]
    public = ssl.create_default_context(cafile=certifi.where()).get_ca_certs()
    assert told["roots"] > len(public)


def test_a_file_of_the_users_own_says_what_else_is_trusted(tmp_path, hub, certificate):
    first = tmp_path / "first.pem"
    first.write_text(
        Path(certifi.where()).read_text().partition("-----END CERTIFICATE-----")[0]
        + "-----END CERTIFICATE-----\n"
    )
    code, log, told = asked(
        tmp_path, hub, **{CA_BUNDLE: certificate[0].read_text(), "SSL_CERT_FILE": str(first)}
    )
    assert code == 0, log
    assert told["roots"] == 2
