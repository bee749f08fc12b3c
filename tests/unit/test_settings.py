"""The operator's own settings: what is refused, what is kept of a bundle of certificates, and what the page says."""

import re
from dataclasses import fields
from pathlib import Path

import certifi
import pytest
import yaml

from gemma_operator.errors import InvalidSettings
from gemma_operator.settings import OperatorSettings, from_mapping

PAGE = (Path(__file__).parents[2] / "docs/settings.md").read_text()
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


@pytest.mark.parametrize(
    ("key", "bad", "says"),
    [
        ("workers", 0, "workers must be more than 0, not 0"),
        ("workers", 2.5, "workers must be a whole number, not 2.5"),
        ("probesAtOnce", -1, "probesAtOnce must be more than 0, not -1"),
        ("probePeriodSeconds", float("nan"), "probePeriodSeconds must be a number, not nan"),
        ("probePeriodSeconds", 0, "probePeriodSeconds must be more than 0, not 0"),
        ("settleSeconds", -0.1, "settleSeconds must be 0 or more than 0, not -0.1"),
        ("metricsPort", 65536, "metricsPort must be 0 to 65535, not 65536"),
        ("logFormat", "xml", "logFormat must be text or json, not 'xml'"),
        ("defaultEngineVersion", "newest", "defaultEngineVersion must be like"),
        ("defaultEngineVersion", "v0.32", "defaultEngineVersion must be like"),
        ("namespace", "", "namespace must not be empty"),
        ("operatorCidrs", ["192.0.2.7"], "operatorCidrs: '192.0.2.7' is not like 10.0.0.0/8, 192.0.2.7/32"),
        ("operatorCidrs", ["10.0.0.0/33"], "operatorCidrs: '10.0.0.0/33' is not like 10.0.0.0/8"),
    ],
)
def test_what_could_not_be_worked_with_is_refused_at_the_start(key, bad, says):
    with pytest.raises(InvalidSettings, match=says):
        from_mapping({key: bad})


@pytest.mark.parametrize(
    ("key", "good"),
    [
        ("settleSeconds", 0),
        ("metricsPort", 0),
        ("workers", 1),
        ("logFormat", "json"),
        ("defaultEngineVersion", "0.32.0"),
        ("operatorCidrs", ["10.1.2.3/8", "fd00::/8", "192.0.2.7/32"]),
    ],
)
def test_what_is_odd_and_can_be_worked_with_is_taken(key, good):
    from_mapping({key: good})


def as_the_page_has_it(value):
    if isinstance(value, float):
        return f"`{value:g}`"
    return f"`{value}`" if value else "none"


def camel(name):
    return re.sub(r"_(\w)", lambda found: found[1].upper(), name)


def test_the_page_has_every_setting_with_its_default():
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", PAGE, re.MULTILINE))
    assert rows == {camel(each.name): as_the_page_has_it(each.default) for each in fields(OperatorSettings)}


def test_the_pages_example_is_taken():
    example = yaml.safe_load(PAGE.split("```yaml")[1].split("```")[0])
    assert from_mapping(example).pool_access[0].namespaces == ("research",)
