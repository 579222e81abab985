"""The scripted engine keeps its word: what other tests build on."""

import asyncio
import json
import sys

import pytest
from tests.support.scripted import FIRST_ID, Script, ScriptedEngine, word, words

from underlay.domain.answer import Resume
from underlay.domain.errors import EngineFailed
from underlay.domain.prompt import Message, Prompt, Sampling
from underlay.live.engines.llamacpp import LlamaCpp
from underlay.live.engines.openai import OpenAICompatible


@pytest.fixture
async def engine():
    engine = ScriptedEngine(Script(slots=2, tokens=20))
    await engine.start()
    yield engine
    await engine.stop()


async def ask(engine, adapter, prompt, resume=None, read_bytes=1 << 16):
    """Ask over a plain socket; returns status and events."""
    request = adapter.generate(prompt, 0, resume)
    reader, writer = await asyncio.open_connection(engine.host, engine.port)
    head = f"POST {request.path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(request.body)}\r\n\r\n"
    writer.write(head.encode() + request.body)
    status = int((await reader.readline()).split()[1])
    while (await reader.readline()).strip():
        pass
    events, made = [], adapter.reader(prompt, resume)
    try:
        while status == 200 and (size := int((await reader.readline()).strip() or b"0", 16)):
            events += made.feed(await reader.readexactly(size))
            await reader.readexactly(2)
        if status == 200:
            made.finish()
    finally:
        writer.close()
    return status, events


def text_of(events):
    return "".join(event.piece.text for event in events if event.piece)


def chat(text, **sampling):
    return Prompt("chat", "m", messages=(Message("user", text),), sampling=Sampling(**sampling))


ADAPTERS = [LlamaCpp("m"), LlamaCpp("m", "model"), OpenAICompatible("m")]


@pytest.mark.parametrize("adapter", ADAPTERS)
async def test_an_answer_is_its_words(engine, adapter):
    _, events = await ask(engine, adapter, chat("hello"))
    assert text_of(events).lstrip() == words(20).lstrip()
    assert events[-1].end.finish == "stop"
    assert events[-1].completion_tokens == 20


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("delivered", [1, 5, 6, 19])
async def test_a_strand_goes_on_where_it_was_cut(engine, adapter, delivered):
    prompt = chat("hello [[tag=abc]]", max_tokens=20)
    _, whole = await ask(engine, adapter, prompt)
    said = [event for event in whole if event.piece][:delivered]
    text = text_of(said)
    parts = []
    for event in said:
        parts += event.tokens or [event.piece.text]
    resume = Resume(text, tuple(parts), said[-1].completion_tokens)
    _, rest = await ask(engine, adapter, prompt, resume)
    assert text + text_of(rest) == text_of(whole)
    assert rest[-1].completion_tokens == 20 - delivered


async def test_ids_come_with_their_text(engine):
    _, events = await ask(engine, LlamaCpp("m"), chat("hello"))
    ids = [token for event in events for token in event.tokens]
    assert ids == [FIRST_ID + n for n in range(20)]


async def test_a_stop_string_ends_it_and_is_told(engine):
    _, events = await ask(engine, LlamaCpp("m"), chat("hello", stop=("w8 w9",)))
    assert text_of(events) == words(8)[1:] + " "
    assert events[-1].end.stop_string == "w8 w9"


async def test_a_limit_ends_it(engine):
    _, events = await ask(engine, OpenAICompatible("m"), chat("hello", max_tokens=3))
    assert text_of(events) == words(3)
    assert events[-1].end.finish == "length"


@pytest.mark.parametrize("fault", ["cut", "malformed", "error"])
@pytest.mark.parametrize("adapter", ADAPTERS)
async def test_faults_in_the_body_are_failures(engine, adapter, fault):
    with pytest.raises(EngineFailed):
        await ask(engine, adapter, chat(f"hello [[{fault}=3]]"))


@pytest.mark.parametrize("fault", ["reset", "close"])
async def test_faults_of_the_connection_reach_the_client(engine, fault):
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError, ValueError, EngineFailed)):
        await ask(engine, ADAPTERS[0], chat(f"hello [[{fault}=3]]"))


async def test_leaving_frees_the_slot_and_is_counted(engine):
    async with asyncio.timeout(5):
        task = asyncio.create_task(ask(engine, ADAPTERS[0], chat("hello [[tokens=9999 itl=5]]")))
        while not engine.busy:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        task.cancel()
        while engine.busy:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert engine.counters.requests_cancelled_total == 1


async def test_more_requests_than_slots_wait_their_turn(engine):
    prompt = chat("hello [[tokens=10 itl=2]]")
    answers = await asyncio.gather(*(ask(engine, ADAPTERS[0], prompt) for _ in range(7)))
    assert all(text_of(events) == words(10)[1:] for _, events in answers)
    assert engine.busy == engine.waiting == 0


async def test_as_a_process_it_says_where_it_listens_and_dies_on_request():
    child = await asyncio.create_subprocess_exec(
        sys.executable, "tests/support/scripted.py", "--tokens", "3", stdout=asyncio.subprocess.PIPE
    )
    line = json.loads(await child.stdout.readline())
    assert line["pid"] == child.pid
    assert line["listening"].startswith("http://127.0.0.1:")
    child.terminate()
    assert await child.wait() == 0


def test_words_vary_and_include_characters_of_several_bytes():
    assert word(3) == " éw3"
    assert word(5) == " 😀w5"
