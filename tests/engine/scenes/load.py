"""Clients that keep an endpoint busy while something happens to it, and count what became of each request.

Run where a client would be, in a pod: `python3 load.py URL MODEL …`. It is told by lines on its standard input:
`mark WORDS` notes how many requests are in flight, `stop` lets those finish and ends. Its last line is a report in
JSON. Half of the clients keep their connections, half open one a request; half stream, half wait for the whole.

Counted apart, because they cost a user different things: *answered*; *retried*: closed before the first byte of an
answer, so that any client may send it again, and answered then; *lost*: everything else.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import aiohttp

#: Long enough for a queue and a cold replica; a request that takes longer is lost for whoever waits.
ANSWER_SECONDS: Final = 240.0
MOST_TROUBLES: Final = 20


class ClosedEarly(Exception):
    """The connection went before the first byte of an answer: it is safe to ask again."""


class Lost(Exception):
    """An answer that began and did not end, was no success, or was not what was asked for."""


@dataclass(slots=True)
class Report:
    """What became of all requests."""

    answered: int = 0
    retried: int = 0
    lost: int = 0
    shortest_seconds: float = 0.0
    median_seconds: float = 0.0
    longest_seconds: float = 0.0
    #: Requests in flight when a mark was set, by the mark's words.
    marks: dict[str, int] = field(default_factory=dict)
    #: Requests in flight at some moment between the first mark and the last.
    met: int = 0
    troubles: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Asking:
    """What each request asks for."""

    url: str
    model: str
    tokens: int
    key: str = ""

    def body(self, *, stream: bool) -> dict[str, Any]:
        """A completion of exactly `tokens` tokens."""
        return {
            "model": self.model,
            "prompt": "Count the boats in the harbour.",
            "max_tokens": self.tokens,
            "ignore_eos": True,
            "temperature": 0,
            "stream": stream,
            **({"stream_options": {"include_usage": True}} if stream else {}),
        }

    @property
    def headers(self) -> dict[str, str]:
        """With the key, where there is one."""
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}


class Load:
    """The clients of one endpoint."""

    def __init__(
        self, asking: Asking, *, most: int | None = None, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.report = Report()
        self._most = most
        self._asking = asking
        self._now = now
        self._in_flight: dict[int, float] = {}
        self._lives: list[tuple[float, float]] = []
        self._marked: list[float] = []
        self._stopping = False
        self._number = 0

    def mark(self, words: str) -> int:
        """Something begins or ends now."""
        self._marked.append(self._now())
        self.report.marks[words] = len(self._in_flight)
        return len(self._in_flight)

    def stop(self) -> None:
        """No new requests; those in flight are waited for."""
        self._stopping = True

    async def run(self, *, clients: int) -> Report:
        """Until it is stopped and every request has its answer."""
        async with asyncio.TaskGroup() as group:
            for place in range(clients):
                group.create_task(self.client(pooled=place % 2 == 0, stream=place % 4 < 2))
        return self.summed_up()

    async def client(self, *, pooled: bool, stream: bool) -> None:
        """One client: its next request begins when the last one has ended."""
        async with _session(self._asking, pooled=pooled) as kept:
            while not self._stopping:
                if pooled:
                    await self._request(kept, stream=stream)
                else:
                    async with _session(self._asking, pooled=False) as fresh:
                        await self._request(fresh, stream=stream)

    async def _request(self, session: aiohttp.ClientSession, *, stream: bool) -> None:
        self._number += 1
        if self._number == self._most:
            self.stop()
        number, begun = self._number, self._now()
        self._in_flight[number] = begun
        try:
            await self._counted(session, stream=stream)
        finally:
            del self._in_flight[number]
            self._lives.append((begun, self._now()))

    async def _counted(self, session: aiohttp.ClientSession, *, stream: bool) -> None:
        try:
            await ask(session, self._asking, stream=stream)
        except ClosedEarly as first:
            try:
                await ask(session, self._asking, stream=stream)
            except (ClosedEarly, Lost) as second:
                self._lose(f"{first}; asked again: {second}")
            else:
                self.report.retried += 1
                self._note(f"asked again: {first}")
        except Lost as error:
            self._lose(str(error))
        else:
            self.report.answered += 1

    def _lose(self, why: str) -> None:
        self.report.lost += 1
        self._note(f"lost: {why}")

    def _note(self, trouble: str) -> None:
        if len(self.report.troubles) < MOST_TROUBLES:
            self.report.troubles.append(trouble)

    def summed_up(self) -> Report:
        """The report, with how long the requests took and how many met what was marked."""
        taken = sorted(end - begun for begun, end in self._lives)
        if taken:
            self.report.shortest_seconds = round(taken[0], 2)
            self.report.median_seconds = round(taken[len(taken) // 2], 2)
            self.report.longest_seconds = round(taken[-1], 2)
        if self._marked:
            first, last = self._marked[0], self._marked[-1]
            self.report.met = sum(1 for begun, end in self._lives if begun <= last and end >= first)
        return self.report


@asynccontextmanager
async def _session(asking: Asking, *, pooled: bool) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(force_close=not pooled)
    limits = aiohttp.ClientTimeout(total=ANSWER_SECONDS, connect=30)
    async with aiohttp.ClientSession(connector=connector, timeout=limits, headers=asking.headers) as session:
        yield session


async def ask(session: aiohttp.ClientSession, asking: Asking, *, stream: bool) -> None:
    """One request, to its very end. Raises `ClosedEarly` or `Lost`."""
    try:
        answer = await session.post(f"{asking.url}/completions", json=asking.body(stream=stream))
    except (aiohttp.ClientConnectionError, ConnectionError) as error:
        raise ClosedEarly(f"{type(error).__name__} {error}") from error
    except TimeoutError as error:
        raise Lost(f"no answer within {ANSWER_SECONDS:.0f} seconds") from error
    async with answer:
        if answer.status != 200:
            raise Lost(f"{answer.status} {(await answer.text())[:200]}")
        try:
            made = await _streamed_tokens(answer) if stream else await _plain_tokens(answer)
        except (aiohttp.ClientError, ConnectionError, TimeoutError, ValueError) as error:
            raise Lost(f"broke off: {type(error).__name__} {error}") from error
    if made != asking.tokens:
        raise Lost(f"{made} of {asking.tokens} tokens")


async def _plain_tokens(answer: aiohttp.ClientResponse) -> int:
    return int((await answer.json())["usage"]["completion_tokens"])


async def _streamed_tokens(answer: aiohttp.ClientResponse) -> int:
    """Tokens that the last chunk counts; 0 where the stream ended without its end mark."""
    made, ended = 0, False
    async for line in answer.content:
        text = line.decode().strip()
        if text == "data: [DONE]":
            ended = True
        elif text.startswith("data: "):
            usage = json.loads(text.removeprefix("data: ")).get("usage")
            made = usage["completion_tokens"] if usage else made
    return made if ended else 0


async def _told(load: Load) -> None:
    """Lines of the standard input, until it says stop or ends."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while line := (await reader.readline()).decode().strip():
        if line == "stop":
            break
        if line.startswith("mark "):
            print(json.dumps({"mark": line[5:], "inFlight": load.mark(line[5:])}), flush=True)  # noqa: T201
    load.stop()


async def main(arguments: argparse.Namespace) -> None:
    """Asks until it is told to stop."""
    load = Load(Asking(arguments.url, arguments.model, arguments.tokens, arguments.key))
    told = asyncio.create_task(_told(load))
    print(json.dumps({"started": arguments.clients}), flush=True)  # noqa: T201
    report = await load.run(clients=arguments.clients)
    await told
    print(json.dumps(asdict(report)), flush=True)  # noqa: T201


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url", help="the endpoint, ending in /v1")
    parser.add_argument("model", help="the served name")
    parser.add_argument("--clients", type=int, default=24)
    parser.add_argument("--tokens", type=int, default=1500)
    parser.add_argument("--key", default="")
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main(_arguments()))
