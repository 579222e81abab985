"""A client's connection breaks: after every byte of its request, every write of its reply, every turn of the loop.

Each time everything it held is given back: its lease, its connection to the engine, the engine's slot; it is charged
once or never; and a neighbour whose stream runs on the same engines hears exactly its own words.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re

import pytest
from tests.live.wire import DIALECTS, http
from tests.support.inside import Inside, Line, inside
from tests.support.scripted import words

from underlay.control.events import ReplicaSeen

by_dialect = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)


class Neighbour:
    """Somebody who streams all the while, one answer after the other."""

    TOKENS = 150

    def __init__(self, place: Inside) -> None:
        self.place = place
        self.answers = 0
        self.task = asyncio.create_task(self._talk())

    async def _talk(self) -> None:
        body = DIALECTS[0].body(f"[[tokens={self.TOKENS} itl=2 tag=neighbour]]", stream=True)
        while True:
            self.line = Line(self.place)
            self.line.send(http(DIALECTS[0].path(True), body, key=self.place.secret, head="Connection: close\r\n"))
            await self.line.over.wait()
            whole = self.text == words(self.TOKENS, "neighbour").lstrip()
            assert whole, self.text
            self.answers += 1

    @property
    def text(self) -> str:
        """What it has heard of the present answer."""
        said = re.findall(rb'"delta":\{"content":("[^"]*")\}', self.line.got)
        return "".join(json.loads(piece) for piece in said).lstrip()

    async def leave(self) -> None:
        if self.task.done():
            self.task.result()
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task
        right = words(self.TOKENS, "neighbour").lstrip().startswith(self.text)
        assert right, self.text
        self.line.snap()


@contextlib.asynccontextmanager
async def a_place_with_a_neighbour(folder, **more):
    async with inside(folder, **more) as place:
        neighbour = Neighbour(place)
        try:
            await place.settles(1)
            yield place, neighbour
        finally:
            await neighbour.leave()
        await place.settles(0)
        place.check_books()


def wanted(place: Inside, dialect, text: str, *, stream: bool, head: str = "") -> bytes:
    return http(dialect.path(stream), dialect.body(text, stream=stream), key=place.secret, head=head)


async def _back_to_the_neighbour(place: Inside, neighbour: Neighbour) -> None:
    """Everything but the neighbour's is given back. (Between two of its answers there is nothing of it, either.)"""
    async with asyncio.timeout(3):
        while True:
            with contextlib.suppress(AssertionError):
                await place.settles(1, 0.05)
                break
            if neighbour.task.done():
                neighbour.task.result()
    place.check_books()


@by_dialect
async def test_after_every_byte_of_the_request(tmp_path, dialect):
    async with a_place_with_a_neighbour(tmp_path) as (place, neighbour):
        whole = wanted(place, dialect, "hello [[tokens=50 itl=2]]", stream=True)
        for cut in range(len(whole) + 1):
            line = Line(place)
            line.send(whole[: cut // 2]).send(whole[cut // 2 : cut])
            line.snap()
            await line.over.wait()
            assert len(place.driver.exchanges) <= 1
            place.driver.desk.check()
        await _back_to_the_neighbour(place, neighbour)


@by_dialect
async def test_after_every_write_of_the_reply(tmp_path, dialect):
    async with a_place_with_a_neighbour(tmp_path) as (place, neighbour):
        last = Line(place).send(
            wanted(place, dialect, "hello [[tokens=5 itl=1]]", stream=True, head="Connection: close\r\n")
        )
        await last.over.wait()
        assert last.writes > 4
        for writes in range(1, last.writes + 1):
            line = Line(place, writes_max=writes)
            line.send(wanted(place, dialect, "hello [[tokens=5 itl=1]]", stream=True))
            await line.over.wait()
            assert last.got[:8] == line.got[:8]
            await _back_to_the_neighbour(place, neighbour)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("kind", ["llamacpp", "openai"])
async def test_after_every_turn_of_the_loop(tmp_path, kind, stream):
    """Connecting to the engine, waiting for its first word, hearing it: wherever that is just then."""
    async with a_place_with_a_neighbour(tmp_path, kind=kind) as (place, neighbour):
        for turns in range(40):
            line = Line(place).send(wanted(place, DIALECTS[turns % 3], "hello [[tokens=3]]", stream=stream))
            for _ in range(turns):
                await asyncio.sleep(0)
            line.snap()
            await line.over.wait()
            place.driver.desk.check()
            if turns % 4 == 0:  # else with what the last ones left still on its way
                await _back_to_the_neighbour(place, neighbour)
        await _back_to_the_neighbour(place, neighbour)


@by_dialect
async def test_while_it_waits_in_line(tmp_path, dialect):
    async with inside(tmp_path, engines=1, slots=1) as place:
        first = Line(place).send(wanted(place, dialect, "[[tokens=200 itl=2]]", stream=True))
        await place.settles(1)
        for turns in range(12):
            line = Line(place).send(wanted(place, dialect, "[[tokens=1]]", stream=turns % 2 == 0))
            assert place.driver.desk.waiting() == 1
            for _ in range(turns):
                await asyncio.sleep(0)
            line.snap()
            await line.over.wait()
            assert place.driver.desk.waiting() == 0
            place.check_books()
        first.snap()
        await place.settles(0)
        place.check_books()


@by_dialect
async def test_while_the_engine_says_nothing(tmp_path, dialect):
    """No word will come that could show that nobody listens: the connection itself has to go."""
    async with a_place_with_a_neighbour(tmp_path) as (place, neighbour):
        for tokens in range(4):
            line = Line(place).send(wanted(place, dialect, f"[[tokens=9 hang={tokens}]]", stream=True))
            await place.settles(2)
            await asyncio.sleep(0.01)
            line.snap()
            await line.over.wait()
            await _back_to_the_neighbour(place, neighbour)


async def test_while_its_answer_moves_to_another_replica(tmp_path):
    """The replica is lost and the client leaves, in either order and any turns apart."""
    async with a_place_with_a_neighbour(tmp_path, engines=3) as (place, neighbour):
        for turns in range(16):
            line = Line(place).send(wanted(place, DIALECTS[turns % 3], "[[tokens=80 itl=1]]", stream=True))
            await _until(lambda line=line: line.writes >= 2)
            (mine,) = [
                t for t in place.driver.desk.tickets.values() if "neighbour" not in _who(place, neighbour, t)
            ]
            order = [lambda name=mine.replica.name: place.lose(name), line.snap]
            for act in order if turns % 2 else order[::-1]:
                act()
                for _ in range(turns // 2):
                    await asyncio.sleep(0)
            await line.over.wait()
            await _back_to_the_neighbour(place, neighbour)
            _all_seen_again(place)


def _who(place: Inside, neighbour: Neighbour, ticket) -> str:
    return "neighbour" if place.driver.exchanges[ticket.name].connection is neighbour.line.protocol else "me"


def _all_seen_again(place: Inside) -> None:
    for number, replica in enumerate(list(place.driver.desk.replicas.values())):
        if replica.state == "lost":
            at, generation = place.driver.now(), replica.generation + 1
            place.driver.submit(ReplicaSeen(at, f"r{number}", "m", 8, generation))


async def test_with_an_idempotency_key_it_may_ask_again(tmp_path):
    """What was not answered whole is not kept as the answer, wherever it broke."""
    async with a_place_with_a_neighbour(tmp_path) as (place, neighbour):
        for writes in range(1, 8):
            asked = wanted(
                place, DIALECTS[0], "[[tokens=5 itl=1]]", stream=True, head=f"Idempotency-Key: k{writes}\r\n"
            )
            line = Line(place, writes_max=writes).send(asked)
            await line.over.wait()
            await _back_to_the_neighbour(place, neighbour)
            again = Line(place)
            again.send(asked.replace(b"Host:", b"Connection: close\r\nHost:"))
            await again.over.wait()
            assert again.got.endswith(b"0\r\n\r\n") or b"idempotent-replayed" in again.got
            assert json.dumps(words(5).split()[-1])[1:-1].encode() in again.got
        await _back_to_the_neighbour(place, neighbour)


async def _until(what) -> None:
    async with asyncio.timeout(5):
        while not what():  # noqa: ASYNC110
            await asyncio.sleep(0.001)
