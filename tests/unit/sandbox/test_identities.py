import base64
import csv
import json

from gemma_operator.sandbox import identities


def test_every_identity_has_its_own_secret_and_user():
    tokens = identities.new_tokens()
    rows = list(csv.reader(identities.token_file(tokens).splitlines()))
    assert len({row[0] for row in rows}) == len({row[1] for row in rows}) == len(identities.ALL)
    operator = next(row for row in rows if row[2] == "operator")
    assert operator[1] == "system:serviceaccount:gemma-system:gemma-operator"
    assert operator[3].split(",") == [
        "system:serviceaccounts",
        "system:serviceaccounts:gemma-system",
        "system:authenticated",
    ]


def test_the_operator_is_no_administrator():
    assert "system:masters" not in identities.OPERATOR.groups
    assert "system:masters" in identities.ADMIN.groups


def test_a_kubeconfig_holds_all_that_it_needs():
    text = identities.kubeconfig(
        sandbox="demo",
        url="https://127.10.0.1:6443",
        certificate=b"PEM",
        identity=identities.ADMIN,
        token="t",
    )
    document = json.loads(text)
    cluster = document["clusters"][0]["cluster"]
    assert cluster["server"] == "https://127.10.0.1:6443"
    assert base64.b64decode(cluster["certificate-authority-data"]) == b"PEM"
    assert document["users"][0]["user"] == {"token": "t"}
    assert document["current-context"] == document["contexts"][0]["name"]
