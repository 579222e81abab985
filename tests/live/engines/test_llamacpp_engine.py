"""The adapter against the real llama.cpp with the bundled model."""

import http.client
import json
import socket
import subprocess
import time

import jsonschema_rs
import pytest

from underlay.control.delivery import StrandProgress
from underlay.domain.answer import Resume
from underlay.domain.errors import BadRequest, NotSupported, PromptTooLong
from underlay.domain.prompt import Format, Message, Prompt, Sampling, Tool, ToolChoice
from underlay.live.engines.json_grammar import compile_schema
from underlay.live.engines.llamacpp import LlamaCpp
from underlay.live.engines.residual import Residual
from underlay.live.engines.slots import Seat, Slots
from underlay.live.fleet.process import llamacpp_command
from underlay.live.settings import EngineSettings, ModelSettings

pytestmark = pytest.mark.engine

ADAPTER = LlamaCpp("m")
CITY = {"type": "object", "properties": {"city": {"$ref": "#/$defs/C"}}, "required": ["city"]}
CITY["$defs"] = {"C": {"type": "string", "maxLength": 12}}
WEATHER = Tool("get_weather", "Weather of a city", CITY)
ADD = Tool(
    "add",
    "Adds",
    {"type": "object", "properties": {"a": {"type": "integer", "maximum": 99, "minimum": 0}}, "required": ["a"]},
)


class Child:
    """An engine as the fleet starts it."""

    def __init__(self, path, **engine):
        engine = EngineSettings(path=path, template="transcript", slots=2, **engine)
        command = llamacpp_command(ModelSettings(name="m", context_tokens=1024, engine=engine), path, 1)
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        url = json.loads(self.process.stdout.readline())["listening"]
        self.address = ("127.0.0.1", int(url.rpartition(":")[2]))

    def open(self, request):
        connection = http.client.HTTPConnection(*self.address, timeout=60)
        connection.request(request.method, request.path, request.body, dict(request.headers))
        return connection, connection.getresponse()

    def get(self, path):
        connection = http.client.HTTPConnection(*self.address, timeout=10)
        connection.request("GET", path)
        body = connection.getresponse().read()
        connection.close()
        return body

    def busy(self):
        return sum(slot["is_processing"] for slot in json.loads(self.get("/slots")))

    def stop(self):
        self.process.stdin.close()
        assert self.process.wait(10) == 0
        self.process.stdout.close()


@pytest.fixture(scope="module")
def engine(weights):
    child = Child(weights)
    yield child
    child.stop()


def ask(engine, prompt, strand=0, resume=None, seat=None, adapter=ADAPTER):
    connection, response = engine.open(adapter.generate(prompt, strand, resume, seat))
    try:
        if response.status != 200:
            raise adapter.error(response.status, response.read())
        reader, events = adapter.reader(prompt, resume), []
        while data := response.read1(4096):
            events += reader.feed(data)
        reader.finish()
        return events
    finally:
        connection.close()


def text_of(events):
    return "".join(event.piece.text for event in events if event.piece)


def chat(*turns, max_tokens=40, **fields):
    roles = ("user", "assistant") * len(turns)
    messages = tuple(Message(role, turn) for role, turn in zip(roles, turns, strict=False))
    return Prompt("chat", "m", messages=messages, sampling=Sampling(max_tokens=max_tokens), **fields)


@pytest.mark.parametrize(
    ("turns", "word"),
    [
        (("What is the capital of France?",), "Paris"),
        (("What is 2+2?",), "4"),
        (("Who wrote Hamlet?",), "Shakespeare"),
        (("Hello!",), "Hello"),
        (("What is the capital of France?", "Paris.", "What river flows through it?"), "Seine"),
        (("My name is Ada.", "Nice to meet you, Ada.", "What is my name?"), "Ada"),
    ],
)
def test_the_bundled_model_answers_ordinary_questions(engine, turns, word):
    events = ask(engine, chat(*turns))
    answer = text_of(events)
    assert word in answer
    assert answer == answer.strip()
    assert (events[-1].end.finish, events[-1].end.stop_string) == ("stop", None)


def test_the_common_beginning_is_found_in_the_prefix_cache(engine):
    ask(engine, chat("Hello!"))
    assert ask(engine, chat("Name three colours."))[0].cached_tokens > 90


def test_a_strand_goes_on_from_ids_as_if_it_had_never_stopped(engine):
    prompt = chat("Why is the sky blue? Explain at length.")
    whole = ask(engine, prompt)
    said = [event for event in whole if event.piece]
    assert len(said) > 4
    for cut in (1, 3, len(said) - 1):
        text = text_of(said[:cut])
        ids = tuple(token for event in said[:cut] for token in event.tokens)
        resume = Resume(text, ids, said[cut - 1].completion_tokens)
        rest = ask(engine, prompt, 0, resume)
        assert text + text_of(rest) == text_of(whole)
        assert rest[-1].completion_tokens + resume.completion_tokens == whole[-1].completion_tokens
        assert rest[-1].prompt_tokens == whole[-1].prompt_tokens


def test_a_limit_ends_an_answer(engine):
    end = ask(engine, Prompt("completion", "m", texts=("Once upon a time",), sampling=Sampling(max_tokens=3)))[-1]
    assert (end.end.finish, end.completion_tokens) == ("length", 3)


def test_a_callers_stop_string_is_told(engine):
    prompt = Prompt("completion", "m", texts=("1 2 3 4 5 6",), sampling=Sampling(stop=(" 9",), temperature=0.0))
    events = ask(engine, prompt)
    assert (text_of(events), events[-1].end.stop_string) == (" 7 8", " 9")


def test_logprobs_come_with_the_tokens(engine):
    sampling = Sampling(max_tokens=3, logprobs=2, temperature=0.0)
    events = ask(engine, Prompt("completion", "m", texts=("The capital of France is",), sampling=sampling))
    told = [entry for event in events if event.piece for entry in event.piece.logprobs]
    assert "".join(entry.token for entry in told) == text_of(events)
    assert all(entry.logprob <= 0 and len(entry.top) == 2 for entry in told)


@pytest.mark.parametrize("choice", [ToolChoice("required"), ToolChoice("named", "get_weather")])
def test_a_tool_that_must_be_called_is_called(engine, choice):
    prompt = chat("What is the weather in Paris?", tools=(ADD, WEATHER), tool_choice=choice)
    events = ask(engine, prompt)
    deltas = [d for event in events if event.piece for d in event.piece.tool_calls]
    assert deltas[0].name in ("add", "get_weather") if choice.mode == "required" else ("get_weather",)
    assert json.loads("".join(d.arguments for d in deltas))
    assert events[-1].end.finish == "tool_calls"


def test_a_tool_that_may_be_called_leaves_room_for_an_answer(engine):
    events = ask(engine, chat("What is the capital of France?", tools=(WEATHER,)))
    assert events[-1].end.finish in ("stop", "tool_calls")


def test_an_answer_keeps_to_its_schema(engine):
    person = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 9},
            "age": {"type": "integer", "maximum": 99, "minimum": 1},
        },
        "required": ["name", "age"],
    }
    answer = json.loads(text_of(ask(engine, chat("Describe a person.", format=Format("json_schema", person)))))
    assert sorted(answer) == ["age", "name"]
    assert ask(engine, chat("Describe a cat.", max_tokens=9, format=Format("json_object")))


def test_a_schema_that_the_engine_drops_is_noticed(engine):
    schema = {
        "type": "object",
        "properties": {"a": {"type": "integer", "minimum": 5, "maximum": 2}},
        "required": ["a"],
    }
    with pytest.raises(BadRequest):
        ask(engine, chat("Describe a person.", format=Format("json_schema", schema)))


# Going on in the middle of a grammar.

CHAIN = {
    "$defs": {
        "link": {
            "type": "object",
            "properties": {
                "word": {"type": "string", "maxLength": 8},
                "next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/link"}]},
            },
            "required": ["word", "next"],
            "additionalProperties": False,
        }
    },
    "$ref": "#/$defs/link",
}
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 2, "maxLength": 3000},
        "age": {"type": "integer", "minimum": 1, "maximum": 120},
        "likes": {
            "type": "array",
            "items": {"enum": ["music", "books", "mus\u00e9es"]},
            "minItems": 1,
            "maxItems": 2,
        },
    },
    "required": ["name", "age", "likes"],
}
AS_JSON = [
    chat("Make a list of words.", max_tokens=60, format=Format("json_schema", CHAIN)),
    chat("Describe a person named Jürgen.", max_tokens=60, format=Format("json_schema", PERSON)),
    chat("Describe a cat as JSON.", max_tokens=12, format=Format("json_object")),
]
AS_CALL = chat(
    "What is the weather in Paris?", tools=(WEATHER, ADD), tool_choice=ToolChoice("named", "get_weather")
)


def cut(events, count):
    """What a caller has got after so many pieces, and where another engine goes on."""
    strand = StrandProgress()
    for event in [event for event in events if event.piece][:count]:
        strand.accept(event)
    return strand.resume()


def arguments_of(events):
    return "".join(delta.arguments for event in events if event.piece for delta in event.piece.tool_calls)


@pytest.mark.parametrize("prompt", AS_JSON, ids=["recursive", "bounded", "any object"])
def test_json_cut_anywhere_goes_on_to_be_whole(engine, prompt):
    """I2: on another slot, with the grammar of what may still follow."""
    assert ADAPTER.resumable(prompt)
    whole = ask(engine, prompt, seat=Seat("ann", 0, reuse=True))
    pieces = len([event for event in whole if event.piece])
    for count in {1, pieces // 2, pieces}:
        resume = cut(whole, count)
        rest = ask(engine, prompt, 0, resume, Seat("ann", 1, reuse=True))
        residual = Residual(compile_schema(prompt.format.schema or {"type": "object"}))
        residual.feed(resume.text + text_of(rest))
        assert residual.complete is (rest[-1].end.finish == "stop")
        if whole[-1].end.finish == "stop":
            assert jsonschema_rs.is_valid(prompt.format.schema, json.loads(resume.text + text_of(rest)))
            assert (not text_of(rest)) is (count == pieces)


def test_a_call_cut_anywhere_goes_on_to_be_whole(engine):
    """I2: names and ids come once, arguments are continued to the letter, with ids or without."""
    assert ADAPTER.resumable(AS_CALL)
    whole = ask(engine, AS_CALL, seat=Seat("ann", 0, reuse=True))
    pieces = len([event for event in whole if event.piece])
    middle = cut(whole, pieces // 2)
    without_ids = Resume("", (), middle.completion_tokens, middle.tool_calls)
    for resume in (cut(whole, 1), middle, without_ids, cut(whole, pieces)):
        rest = ask(engine, AS_CALL, 0, resume, Seat("ann", 1, reuse=True))
        arguments = json.loads(resume.tool_calls[0].arguments + arguments_of(rest))
        assert jsonschema_rs.is_valid(CITY, arguments)
        assert not any(delta.name for event in rest if event.piece for delta in event.piece.tool_calls)
        assert rest[-1].end.finish == "tool_calls"


# Tenants.

SECRET = chat("My secret is that the blue key under the third stone opens the garden door. Who am I?", max_tokens=2)


def public_tokens(engine):
    """How many tokens any two conversations share."""
    ask(engine, chat("Hello!", max_tokens=1), seat=Seat("ann", 0, reuse=False))
    return ask(engine, chat("Unlike it.", max_tokens=1), seat=Seat("ann", 0, reuse=True))[0].cached_tokens


def test_no_tenant_feels_anothers_prompt_in_the_prefix_cache(engine):
    """I13: by the engine's own count of tokens it did not compute, on every slot there is."""
    shared = public_tokens(engine)
    books = Slots()
    books.opened("m/0", 2)

    def cached(tenant):
        seat = books.take("m/0", tenant, time.monotonic())
        events = ask(engine, SECRET, seat=seat)
        seat.give_back(time.monotonic(), clean=True)
        return events[-1].cached_tokens

    for slot in range(2):  # as the warming does
        ask_whole(engine, ADAPTER.warm(slot))
    assert cached("ann") <= shared
    assert cached("ann") > shared
    assert all(cached(tenant) <= shared for tenant in ("bob", "cyd", "dan", "ann"))
    assert cached("ann") > shared
    for slot in range(2):  # a slot that is warmed again has forgotten what it held
        ask_whole(engine, ADAPTER.warm(slot))
        assert ask(engine, SECRET, seat=Seat("eve", slot, reuse=True))[-1].cached_tokens <= shared


def ask_whole(engine, request):
    connection, response = engine.open(request)
    body = response.read()
    connection.close()
    return json.loads(body)


@pytest.mark.parametrize("adapter", [ADAPTER, LlamaCpp("m", "model")], ids=["transcript", "template"])
def test_the_engine_knows_no_more_than_its_slot(engine, adapter):
    """Neither what another slot has read nor what this one did before is looked at, and nothing that is told so."""
    other = chat("Name the planets, from the sun outwards, and say which one is the largest.", max_tokens=2)

    def cached(prompt, slot, *, reuse):
        return ask(engine, prompt, 0, None, Seat("x", slot, reuse=reuse), adapter)[-1].cached_tokens

    cached(other, 1, reuse=False)
    cached(SECRET, 0, reuse=False)
    again = cached(SECRET, 0, reuse=True)
    elsewhere = cached(SECRET, 1, reuse=True)
    assert elsewhere < again - 8
    cached(other, 0, reuse=True)
    assert cached(SECRET, 0, reuse=True) == elsewhere
    assert cached(SECRET, 0, reuse=False) == 0


def test_a_prompt_that_is_too_long_is_the_callers_fault(engine):
    with pytest.raises(PromptTooLong):
        ask(engine, chat("word " * 2000))


def test_tokens_are_counted_as_the_engine_counts_them(engine):
    prompt = chat("What is the capital of France?")
    connection, response = engine.open(ADAPTER.count(prompt))
    counted = ADAPTER.read_count(response.read())
    connection.close()
    assert counted == ask(engine, prompt)[-1].prompt_tokens


def test_embeddings_are_refused_where_they_are_not_served(engine):
    connection, response = engine.open(ADAPTER.embed(Prompt("embedding", "m", texts=("a",))))
    assert type(ADAPTER.error(response.status, response.read())) is NotSupported
    connection.close()


def endless():
    return ADAPTER.generate(
        Prompt("completion", "m", texts=("Count: 1 2 3",), sampling=Sampling(temperature=0.0)), 0, None
    )


def test_a_closed_connection_frees_the_slot_within_a_second(engine):
    connection, response = engine.open(endless())
    response.read1(10)
    assert engine.busy() == 1
    connection.sock.shutdown(socket.SHUT_RDWR) if connection.sock else response.close()
    connection.close()
    left_at = time.monotonic()
    while engine.busy():
        assert time.monotonic() - left_at < 1
        time.sleep(0.02)


def test_a_server_of_embeddings_embeds(weights):
    child = Child(weights, embeddings=True)
    try:
        connection, response = child.open(
            ADAPTER.embed(Prompt("embedding", "m", texts=("a cat", "a dog", "tax law")))
        )
        rows, usage = ADAPTER.read_embeddings(response.read())
        connection.close()
        assert [len(row) for row in rows] == [640] * 3
        assert usage.prompt_tokens > 3
    finally:
        child.stop()
