"""What may leave the house: text from elsewhere passes here before it reaches status, events or logs.

Logs of engines, answers of APIs and words of registries may hold tokens and signed URLs. One function, so that one
test can hold it; what it removes is replaced by a word that tells that something stood there. It is applied where
text comes in (`excerpt`) and once more where anything goes out (conditions, Events, log lines), so that a path
that somebody forgets is closed too.

Secrets are looked for in two views of the text, in which what JSON and URLs escape is written out: one with a space
for each line break, and one without breaks, where a secret that was cut in two is whole. Where a secret is, a word
beside it may go too; where none is, nothing may.

Anybody may choose the text, so the time that it takes grows as its length does: a run of one character is entered at
its beginning alone, and no run is searched anew from each of its places.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Final

REMOVED: Final = "[removed]"

_BACKSLASHES = r"(?<!\\)\\++"
#: A line break with its indentation, also as a backslash and a letter (JSON, repr).
_BREAK = re.compile(rf"(?:(?<![ \t])[ \t]++)?(?:\r?\n|(?:{_BACKSLASHES}[rn])+)[ \t]*+")
#: What stands for one other character: breaks, and the escapes of JSON and of URLs.
_WRITTEN_OTHERWISE = re.compile(
    rf"(?P<break>{_BREAK.pattern})|{_BACKSLASHES}(?:u00(?P<json>[2-7][0-9a-f])|(?P<plain>[\"'`/]))"
    r"|%(?P<url>[2-7][0-9a-f])",
    re.IGNORECASE,
)

_SPACE = r"(?:\s|\+)"
_IS = rf"(?:{_SPACE}*[:=]{_SPACE}*)"
_QUOTE = r"[\"'`]?"
#: What a value of a header, a flag or a query is made of.
_VALUE = r"[^\s\"'`,;&<>()\[\]{}\\|]"

#: Each pattern's group `secret` goes, or all of it where it has none; of groups that matched nothing, nothing.
_SECRETS: Final = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        # the query of a URL that is signed, or carries a credential (S3, GCS, Azure, the hub's own CDN)
        (
            r"(?:https?|wss?)://[^\s\"'<>?]{1,2000}?\?(?:"
            r"(?=[^\s\"'<>]*?(?:sig|token|credential|key|policy|x-amz|x-goog|secret|password))(?P<secret>[^\s\"'<>]+)"
            r"|[^\s\"'<>]*)"  # a query that carries none: what stands in it, another URL even, carries none either
        ),
        # one parameter of such a query, where its beginning was cut off
        (
            rf"(?:x-amz-[a-z-]+|x-goog-[a-z-]+|key-pair-id|awsaccesskeyid|googleaccessid|signature|\bsig){_QUOTE}"
            rf"{_IS}{_QUOTE}(?P<secret>{_VALUE}+)"
        ),
        # user and password, or a token in their place
        r"[a-z][a-z0-9+.-]{1,20}://(?P<secret>[^\s/@\"'<>\\]+)@",
        # the same, cut within the password: no port is so long
        r"[a-z][a-z0-9+.-]{1,20}://[^\s/@:]+:(?!\d{1,5}\Z)(?P<secret>[^\s/@:\"'<>\\]+)\Z",
        (
            rf"\bauthorization{_QUOTE}{_IS}{_QUOTE}(?P<secret>(?:(?:basic|bearer|token|digest|negotiate|api-?key|aws4-[a-z0-9-]+)"
            rf"{_SPACE}+{_VALUE}+|(?=\S*[0-9]|\S{{20}}|\S+(?-i:[A-Z])){_VALUE}{{6,}}))"
        ),
        # of words after "Bearer", those that people write are no secret
        (
            rf"\bbearer{_SPACE}+(?!(?:tokens?|auth\w*|scheme|realm|header|credentials?|error|is|or|and|for)\b)"
            rf"(?P<secret>{_VALUE}{{4,}})"
        ),
        rf"\bbasic{_SPACE}+(?=\S*(?-i:[A-Z0-9=]))(?P<secret>{_VALUE}{{8,}})",
        # tokens that are known by how they begin
        r"(?<![a-z0-9])(?-i:hf_)(?=[a-z0-9]*(?-i:[A-Z0-9])|[a-z0-9]{12})[a-z0-9]{4,34}",
        r"\bapi_org_[a-z0-9]{8,}",
        r"(?-i:\b(?:AKIA|ASIA)[A-Z0-9]{8,})",
        r"(?-i:\bAIza[A-Za-z0-9_-]{8,})",
        r"\b(?:ya29\.|gh[pousr]_|github_pat_|glpat-|xox[abprs]-|nvapi-|GOCSPX-)[a-z0-9_./-]{8,}",
        r"\bsk-(?=[a-z0-9_-]*(?-i:[A-Z0-9]))[a-z0-9_-]{8,}",
        r"(?-i:\beyJ[A-Za-z0-9_=-]{5,}(?:\.[A-Za-z0-9_=-]*){0,4})",
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
        # what stands behind a name that says what it is; a list of them goes as a whole
        (
            rf"(?<![\w-])(?:[a-z0-9]{{1,24}}[-_.]){{0,6}}(?:api[-_]?keys?|account[-_]?key|access[-_]?key(?:[-_]?id)?"
            rf"|secret[-_]?key|private[-_]?key|client[-_]?secret|secret|password|passwd){_QUOTE}{_IS}"
            rf"(?:\[(?!\[?removed\])(?P<list>[^\]]+)|{_QUOTE}(?P<secret>{_VALUE}{{3,}}))"
        ),
        # many tokens are no secret (eos_token): those that are have a digit or a capital, or are long
        (
            r"(?<![\w-])(?:(?!(?:bos|eos|pad|unk|cls|sep|mask|[a-z]{2,8}_?image|image|audio|video)[-_])[a-z0-9]{1,24}[-_.])"
            rf"{{0,6}}(?:(?:access|refresh|auth|id|session|hub)?token|credentials?){_QUOTE}{_IS}{_QUOTE}"
            rf"(?P<secret>(?=\S*[0-9]|\S{{20}}|\S+(?-i:[A-Z])){_VALUE}{{6,}})"
        ),
    )
)


@functools.lru_cache(maxsize=2048)  # the same messages are said again and again
def scrub(text: str) -> str:
    """`text` without tokens, credentials and signed URLs. Idempotent."""
    while (cleaned := _without_secrets(text)) != text:
        text = cleaned
    return text


def excerpt(text: str, *, limit: int = 200) -> str:
    """The scrubbed text on one line, at most `limit` characters: scrubbed first, so no cut hides a secret."""
    line = " ".join(scrub(text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def tail(text: str, *, limit: int) -> str:
    """The scrubbed end of a text, of which somebody kept `limit` bytes at most.

    Of one that was cut the first line goes: it may begin in the middle of a secret, without what would tell so.
    """
    if len(text.encode()) >= limit:
        first_break = _BREAK.search(text)
        text = text[first_break.end() if first_break else len(text) // 2 :]
    return scrub(text)


def _without_secrets(text: str) -> str:
    spans = sorted({span for for_break in (" ", "") for span in _spans(text, for_break)})
    return "".join(_pieces(text, spans))


def _spans(text: str, for_break: str) -> Iterator[tuple[int, int]]:
    view, origins = _view(text, for_break)
    for pattern in _SECRETS:
        for found in pattern.finditer(view):
            named = [name for name, value in found.groupdict().items() if value is not None]
            if pattern.groups and not named:
                continue
            start, end = found.span(named[0]) if named else found.span()
            yield origins[start][0], origins[end - 1][1]


def _view(text: str, for_break: str) -> tuple[str, list[tuple[int, int]]]:
    """The text with nothing written otherwise, and where each of its characters stood."""
    characters: list[str] = []
    origins: list[tuple[int, int]] = []
    at = 0
    for found in _WRITTEN_OTHERWISE.finditer(text):
        characters += text[at : found.start()]
        origins += [(place, place + 1) for place in range(at, found.start())]
        character = _meant(found, for_break)
        characters += character
        origins += [found.span()] * len(character)
        at = found.end()
    characters += text[at:]
    origins += [(place, place + 1) for place in range(at, len(text))]
    return "".join(characters), origins


def _meant(found: re.Match[str], for_break: str) -> str:
    """One character, or none for a break."""
    if found["break"]:
        return for_break
    code = found["json"] or found["url"]
    return chr(int(code, 16)) if code else found["plain"]


def _pieces(text: str, spans: list[tuple[int, int]]) -> Iterator[str]:
    """What stands outside the spans, with one word for each that does not overlap the one before."""
    at = 0
    for start, end in spans:
        if start >= at:
            yield text[at:start]
            yield REMOVED
        at = max(at, end)
    yield text[at:]
