"""The operator's own settings: what is refused, and what is kept of a bundle of certificates."""

import re
from pathlib import Path

import certifi
import pytest

from gemma_operator.errors import InvalidSettings
from gemma_operator.settings import OperatorSettings, from_mapping

PUBLIC = Path(certifi.where()).read_text()
ONE, TWO = re.findall(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", PUBLIC, re.DOTALL)[:2]


def bundle(text):
    return from_mapping({"caBundle": text}).ca_bundle


def test_of_a_bundle_the_certificates_are_kept_and_the_words_between_are_not():
    assert bundle(f"# Müller's authority\n{ONE}\n\nthe other\n{TWO}\n") == f"{ONE}\n{TWO}\n"


@pytest.mark.parametrize("text", ["", " \n"])
def test_no_bundle_is_no_bundle(text):
    assert bundle(text) == OperatorSettings().ca_bundle == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/etc/ssl/ours.pem", "write the PEM text itself, not a path"),
        (ONE + "\n-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "holds a private key"),
        ("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----", "cannot be read"),
        (ONE.replace(ONE[200:240], "A" * 40), "cannot be read"),
        (PUBLIC, "leave the public authorities out"),
        ([ONE], "must be the text of certificates in PEM, not list"),
    ],
)
def test_what_is_no_bundle_of_ones_own_authorities_is_refused_at_the_start(text, words):
    with pytest.raises(InvalidSettings, match=words):
        bundle(text)


def test_a_refusal_shows_no_private_key():
    with pytest.raises(InvalidSettings) as refused:
        bundle("-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("key", "bad", "good"),
    [
        ("hubMirror", "hub.internal:8443", "https://hub.internal:8443"),
        ("proxy", "user:secret@proxy:3128", "http://user:secret@proxy:3128"),
        ("imageMirror", "https://registry.internal/secret", "registry.internal/hub"),
    ],
)
def test_an_address_of_the_wrong_form_is_refused_and_not_shown(key, bad, good):
    with pytest.raises(InvalidSettings, match=key) as refused:
        from_mapping({key: bad})
    assert "secret" not in str(refused.value)
    assert good in repr(from_mapping({key: good}))
