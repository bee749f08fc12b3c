"""/metrics as vLLM 0.32 writes it: every family, type, label and bucket of a recorded exposition.

The packaged template is that record with the values taken out. Rendering joins prepared prefixes with
numbers, so a hundred servers can be scraped every second.
"""

from __future__ import annotations

import re
import time
from functools import cache
from importlib import resources

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKET = re.compile(r'^(?P<family>[\w:]+)_bucket\{.*?le="(?P<le>[^"]+)"')
_BLOCK_SIZE = 16  # tokens; the template's block_size


class Exposition:
    """The metrics of one server: named numbers that are added to, set, observed, and rendered in order."""

    def __init__(
        self, *, model: str, kv_cache_tokens: int, max_model_len: int, shows_size: bool = True
    ) -> None:
        self.kv_cache_tokens = -(-kv_cache_tokens // _BLOCK_SIZE) * _BLOCK_SIZE
        filled = {
            "@MODEL@": _escaped(model),
            # the engine's own word where it does not know; a size that nobody measured would be held against a plan
            "@KV_CACHE_TOKENS@": str(self.kv_cache_tokens) if shows_size else "None",
            "@NUM_GPU_BLOCKS@": str(self.kv_cache_tokens // _BLOCK_SIZE),
            "@MAX_CONCURRENCY@": str(self.kv_cache_tokens / max_model_len) if shows_size else "None",
        }
        self._held_tokens = 0
        self._values: dict[str, float] = {}
        self._lines: list[tuple[str, str | None]] = []
        now = time.time()
        for line in _template():
            text = line
            for placeholder, value in filled.items():
                text = text.replace(placeholder, value)
            if line.startswith("#"):
                self._lines.append((text, None))
                continue
            sample, _, figure = text.rpartition(" ")
            self._lines.append((f"{sample} ", sample))
            self._values[sample] = now if figure == "@NOW@" else float(figure)
        self._labels = f'{{engine="0",model_name="{_escaped(model)}"}}'
        self._buckets = self._find_buckets()

    def add(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter or gauge; the sample must be one that vLLM has."""
        self._values[self._sample(name, labels)] += amount

    def put(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        sample = self._sample(name, labels)
        if sample not in self._values:
            raise KeyError(sample)
        self._values[sample] = value

    def get(self, name: str, **labels: str) -> float:
        """What a sample says now."""
        return self._values[self._sample(name, labels)]

    def count_request(self, *, handler: str, method: str) -> None:
        """Count an answered request, for those handlers that the record holds."""
        sample = f'http_requests_total{{handler="{handler}",method="{method}",status="2xx"}}'
        if sample in self._values:
            self._values[sample] += 1

    def hold(self, tokens: int) -> None:
        """KV use of running requests, as vLLM counts it: what is merely cached is free."""
        self._held_tokens += tokens
        self.put("vllm:kv_cache_usage_perc", min(1.0, self._held_tokens / self.kv_cache_tokens))

    def observe(self, family: str, value: float, times: int = 1) -> None:
        """Count a value into a histogram."""
        for limit, sample in self._buckets[family]:
            if value <= limit:
                self._values[sample] += times
        self.add(f"{family}_sum", value * times)
        self.add(f"{family}_count", times)

    def render(self) -> bytes:
        """The text of a scrape."""
        values = self._values
        return "".join(
            f"{text}\n" if sample is None else f"{text}{values[sample]!r}\n" for text, sample in self._lines
        ).encode()

    def _sample(self, name: str, labels: dict[str, str]) -> str:
        if not labels:
            return name + self._labels
        pairs = {**_parsed(self._labels), **labels}
        return name + "{" + ",".join(f'{key}="{pairs[key]}"' for key in sorted(pairs)) + "}"

    def _find_buckets(self) -> dict[str, list[tuple[float, str]]]:
        buckets: dict[str, list[tuple[float, str]]] = {}
        for sample in self._values:
            if (found := _BUCKET.match(sample)) and "model_name=" in sample:
                buckets.setdefault(found["family"], []).append((float(found["le"]), sample))
        return buckets


def _parsed(labels: str) -> dict[str, str]:
    return dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels))


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


@cache
def _template() -> tuple[str, ...]:
    packaged = resources.files("gemma_operator.sandbox.simulator") / "vllm-0.32-metrics.txt"
    return tuple(packaged.read_text(encoding="utf-8").splitlines())
