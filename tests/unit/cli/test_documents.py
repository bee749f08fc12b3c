import io
import json

import pytest

from gemma_operator.cli import documents
from gemma_operator.errors import UsageError

NODE = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}}


def read(tmp_path, text):
    path = tmp_path / "objects.yaml"
    path.write_text(text)
    return documents.objects(str(path))


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(NODE),
        "kind: Node\napiVersion: v1\nmetadata: {name: n}\n",
        json.dumps({"kind": "List", "apiVersion": "v1", "items": [NODE]}),
        "---\n---\nkind: List\nitems:\n- kind: Node\n  apiVersion: v1\n  metadata: {name: n}\n---\n",
        json.dumps({"kind": "NodeList", "items": [{"apiVersion": "v1", "metadata": {"name": "n"}}]}),
        json.dumps({"kind": "List", "items": [{"kind": "List", "items": [NODE]}]}),
        "{kind: Node, apiVersion: v1, metadata: {name: n}}",
    ],
    ids=["json", "yaml", "list", "documents", "typed-list", "nested", "flow"],
)
def test_objects_come_as_people_have_them(tmp_path, text):
    assert read(tmp_path, text) == [NODE]


def test_several_documents_are_several_objects(tmp_path):
    assert [obj["kind"] for obj in read(tmp_path, "kind: Node\n---\nkind: Pod\n")] == ["Node", "Pod"]


def test_an_empty_file_holds_nothing(tmp_path):
    assert read(tmp_path, "") == []


def test_a_dash_is_standard_input(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(NODE)))
    assert documents.objects("-") == [NODE]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("kind: Node\n  bad: indent\n", "line 2"),
        ("- kind: Node\n", "no Kubernetes object but list"),
        ("just words\n", "no Kubernetes object but str"),
        ("metadata: {name: n}\n", "no kind"),
        ("\x00", "not yaml"),
        ("a: !!python/object:os.system x\nkind: Node\n", "line 1"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path, text, says):
    with pytest.raises(UsageError, match=says):
        read(tmp_path, text)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"missing\.yaml: No such file"):
        documents.objects(str(tmp_path / "missing.yaml"))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(UsageError, match="not UTF-8"):
        documents.objects(str(tmp_path / "binary"))
