"""Nothing that looks like a secret leaves, in whatever text, cut or written; and what is none stays as it was.

A fragment of fewer than eight characters tells nobody anything, so that is what is looked for.
"""

import json
import os
import string
import subprocess
import sys
import urllib.parse
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gemma_operator.api.reasons import ConditionType, Reason
from gemma_operator.scrub import REMOVED, excerpt, scrub, tail

DATA = Path(__file__).parents[1] / "data"
ALNUM = string.ascii_letters + string.digits
URL_SAFE = ALNUM + "-_"
FRAGMENT = 8

alnum = lambda least, most=None: st.text(ALNUM, min_size=least, max_size=most or least)  # noqa: E731
#: What a hub gives out: letters and digits at random, so never one of lower-case letters alone.
hub_tokens = alnum(34).filter(lambda body: not body.islower()).map("hf_{}".format)
jwts = st.tuples(*[st.text(URL_SAFE, min_size=20, max_size=60)] * 3).map(lambda each: "eyJ" + ".".join(each))
opaque = st.text(URL_SAFE, min_size=16, max_size=60).filter(lambda value: any(c.isdigit() for c in value))
hexes = st.text("0123456789abcdef", min_size=64, max_size=64)

SAYINGS = {
    "hub token": (hub_tokens, "{}"),
    "hub token in a variable": (hub_tokens, "HF_TOKEN={}"),
    "bearer": (opaque, "Authorization: Bearer {}"),
    "bearer of words": (st.text(string.ascii_lowercase, min_size=12, max_size=20), "Bearer {}"),
    "basic": (alnum(23).map("{}=".format), "authorization: Basic {}"),
    "jwt": (jwts, "token {} was refused"),
    "api key": (opaque, "'api_key': '{}'"),
    "two api keys": (opaque, "'api_key': ['{}', 'second']"),
    "api key header": (opaque, "X-Api-Key: {}"),
    "password": (st.text(string.ascii_lowercase, min_size=9, max_size=20), "password={}"),
    "access token": (opaque, '"access_token": "{}"'),
    "aws id": (st.text(string.ascii_uppercase + string.digits, min_size=16, max_size=16), "AKIA{}"),
    "aws key": (alnum(40), "AWS_SECRET_ACCESS_KEY={}"),
    "google key": (st.text(URL_SAFE, min_size=35, max_size=35), "AIza{}"),
    "google token": (opaque, "ya29.{}"),
    "github": (alnum(36), "ghp_{}"),
    "openai": (opaque, "sk-{}"),
    "nvidia": (opaque, "nvapi-{}"),
    "s3": (hexes, "https://b.s3.amazonaws.com/k?X-Amz-Expires=3600&X-Amz-Signature={}&x-id=GetObject"),
    "gcs": (hexes, "https://storage.googleapis.com/b/o?X-Goog-Algorithm=A&X-Goog-Signature={}"),
    "azure": (alnum(43), "https://a.blob.core.windows.net/c?sv=2024-01-01&se=x&sig={}%3D"),
    "hub cdn": (opaque, "https://cas-bridge.xethub.hf.co/x/y?Policy=abc&Signature={}&Key-Pair-Id=K2L"),
    "user and password": (alnum(12, 30), "https://user:{}@registry.example/v2/"),
    "token as user": (alnum(20, 30), "https://glpat-{}@gitlab.example/o/r.git"),
    "proxy": (alnum(12, 20), "proxy http://team:{}@proxy.corp:3128 refused"),
}
saying = st.sampled_from(sorted(SAYINGS)).flatmap(
    lambda name: SAYINGS[name][0].map(lambda secret: (secret, SAYINGS[name][1].format(secret)))
)
#: What may stand around it: anything, but not long enough to hold a part of it by chance.
surroundings = st.lists(st.text(string.printable.replace(" ", ""), max_size=FRAGMENT - 1), max_size=6).map(
    lambda words: "".join(f"{word} " for word in words)
)
WRITINGS = {
    "plain": lambda text: text,
    "json": json.dumps,
    "json in json": lambda text: json.dumps(json.dumps({"error": text})),
    "repr of bytes": lambda text: repr(text.encode() + b"\n"),
    "url": urllib.parse.quote,
    "form": urllib.parse.quote_plus,
}


def leaks(secret, text):
    """A part of the secret that stands in the text."""
    return [
        secret[at : at + FRAGMENT]
        for at in range(len(secret) - FRAGMENT + 1)
        if secret[at : at + FRAGMENT] in text
    ]


@given(saying, surroundings, surroundings, st.sampled_from(sorted(WRITINGS)))
def test_no_secret_leaves_however_it_is_written(said, before, after, writing):
    secret, text = said
    assert leaks(secret, scrub(WRITINGS[writing](f"{before}{text} {after}"))) == []


@given(saying, st.sampled_from(["\n", "\r\n", "\n    ", "\\n"]), st.data())
def test_no_secret_leaves_that_is_split_over_lines(said, line_break, data):
    secret, text = said
    at = data.draw(st.integers(0, len(secret)))
    place = text.index(secret) + at
    assert leaks(secret, scrub(f"{text[:place]}{line_break}{text[place:]} and so on")) == []


@given(saying, surroundings, st.data())
def test_no_secret_leaves_that_is_cut(said, before, data):
    """At its end anywhere; at its beginning where somebody kept so many characters of a text's end."""
    secret, text = said
    whole = f"{before}{text} and so on\nand on"
    end = data.draw(st.integers(0, len(whole)))
    assert leaks(secret, scrub(whole[:end])) == []
    kept = data.draw(st.integers(1, len(whole.encode())))
    assert leaks(secret, tail(whole.encode()[-kept:].decode("utf-8", "replace"), limit=kept)) == []


@given(saying, surroundings, st.integers(10, 120))
def test_an_excerpt_is_one_short_line_without_it(said, before, limit):
    secret, text = said
    line = excerpt(f"{before}{text}\n", limit=limit)
    assert len(line) <= limit
    assert "\n" not in line
    assert leaks(secret, line) == []


@given(st.one_of(st.text(max_size=300), saying.map(lambda said: said[1])))
@example("api_key: ['a', 'b'] password=[x] token=[removed]")
def test_scrubbing_twice_is_scrubbing_once(text):
    assert scrub(scrub(text)) == scrub(text)


HOSTILE = [" ", "\t", "\\", "http://a?", "authorization: ", "a."]


@pytest.mark.parametrize("unit", HOSTILE)
def test_a_text_that_somebody_made_for_it_costs_no_more_than_another_of_its_length(unit):
    """64 KiB take a fraction of a second of CPU; searched anew from each of its places they would take minutes."""
    program = (
        "import resource; resource.setrlimit(resource.RLIMIT_CPU, (30, 30)); "
        f"from gemma_operator.scrub import scrub; scrub({unit!r} * (65536 // {len(unit)}))"
    )
    subprocess.run([sys.executable, "-c", program], env={"PYTHONPATH": os.pathsep.join(sys.path)}, check=True)


def test_what_was_removed_is_marked_and_what_stands_around_it_stays():  # FR-17
    assert scrub("Illegal header value b'Bearer hf_FAKEfake123\\n'") == (
        f"Illegal header value b'Bearer {REMOVED}\\n'"
    )
    assert scrub("GET https://x/y?X-Amz-Signature=abc failed") == f"GET https://x/y?{REMOVED} failed"
    assert scrub("clone https://abc@host/o/r.git") == f"clone https://{REMOVED}@host/o/r.git"
    assert scrub("pull https://me:word@host/image") == f"pull https://{REMOVED}@host/image"


ORDINARY = [
    "basic configuration of hf_overrides, --hf-token None, hf_text_config",
    "eos_token='<|turn>', bos_token_id: 2, pad_token = <pad>, tokens: 172,960, max_num_batched_tokens=8192",
    "Bearer authentication is required",
    "exceeded quota: gpus, requested: requests.nvidia.com/gpu=1, used: requests.nvidia.com/gpu=8",
    'secret "hub-token" not found',
    "couldn't find key token in Secret team-a/hub-token",
    "node(s) had untolerated taint {nvidia.com/gpu: present}",
    "vllm/vllm-openai@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "google/gemma-4-31B-it at 68abe480f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0",
    "see https://docs.vllm.ai/en/latest/configuration/conserving_memory/ for more details.",
    "the key of access.apiKey is missing: make the Secret with the key that the spec names",
]


@pytest.mark.parametrize(
    "text", [*ORDINARY, *(w.meaning for w in ConditionType), *(w.meaning for w in Reason)]
)
def test_what_is_no_secret_stays(text):
    assert scrub(text) == text


@pytest.mark.parametrize("reason", list(Reason))
def test_a_remedy_stays(reason):
    assert scrub(f"pod chat-0: {reason.remedy}") == f"pod chat-0: {reason.remedy}"


@pytest.mark.parametrize("path", sorted(DATA.rglob("*.txt")), ids=lambda path: path.name)
def test_recorded_texts_stay(path):
    """Engines' help, metrics, routes and failures: long texts of the real thing hold nothing that goes."""
    for line in path.read_text().splitlines():
        assert scrub(line) == line
