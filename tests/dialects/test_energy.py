"""What replies say of joules: as much as is known, in every dialect, and nothing where nothing is metered."""

from __future__ import annotations

import json

import pytest

from underlay.dialects import DIALECTS, energy
from underlay.dialects.wire import Route
from underlay.domain.answer import Opening, Receipt, Strand, StrandEnd, Usage
from underlay.domain.energy import RequestEnergy
from underlay.domain.figures import Figure
from underlay.domain.prompt import Ask, Message, Prompt
from underlay.domain.views import Journey

OPENING = Opening("req_0123456789abcdef01234567", 1_700_000_000, "m")
KNOWN = RequestEnergy(
    "provisional", 12.345678912, 0.5, "modelled", "gpu0", "a device", {"busy": 12.345678912},
    cost={"electricity": Figure(1.0, "USD", "assumed")}, margin=Figure(0.5, "USD", "assumed"),
    carbon={"location": Figure(0.001, "gCO2e", "modelled")},
)  # fmt: skip
TOLD = {
    "joules": 12.3457,
    "uncertainty_joules": 0.5,
    "method": "modelled",
    "boundary": "a device",
    "status": "provisional",
    "receipt": OPENING.request_id,
    "record": f"/v1/requests/{OPENING.request_id}/energy",
}
GENERATION = [("openai", "chat"), ("openai", "completions"), ("openai", "responses"), ("anthropic", "messages"),
              ("gemini", "generate"), ("gemini", "stream_generate")]  # fmt: skip
EMBEDDING = [("openai", "embeddings"), ("gemini", "embed"), ("gemini", "batch_embed")]


def asked(name):
    operation = "completion" if name == "completions" else "chat"
    prompt = Prompt(operation=operation, model="m", messages=(Message("user", "x"),), texts=("x",))
    return Ask(prompt=prompt, stream=True, extras={"include_usage": True})


def receipt(known):
    return Receipt(Usage(3, 0, 2), "0.1", known)


def usage_of(body):
    found = body.get("response", body)
    return found.get("usage") or found.get("usageMetadata")


def streamed(dialect, name, known):
    query = {"alt": "sse"} if dialect == "gemini" else {}
    writer = DIALECTS[dialect].writer(Route(dialect, name, query=query), asked(name), OPENING)
    written = writer.open(Usage(3)) + writer.end(0, StrandEnd("stop")) + writer.close(receipt(known))
    frames = [json.loads(line[6:]) for line in written.splitlines() if line.startswith(b"data: {")]
    events = {line for line in written.splitlines() if line.startswith(b"event: ") and b"energy" in line}
    assert not events  # a stranger's event breaks clients
    return [usage for frame in frames if (usage := usage_of(frame)) and "energy" in usage]


@pytest.mark.parametrize(("dialect", "name"), GENERATION)
def test_a_whole_reply_tells_them_in_its_usage(dialect, name):
    strand = Strand("hello", StrandEnd("stop"))
    for known, told in ((KNOWN, TOLD), (None, None)):
        body = DIALECTS[dialect].reply(Route(dialect, name), asked(name), OPENING, [strand], receipt(known))
        assert usage_of(json.loads(body)).get("energy") == told


@pytest.mark.parametrize(("dialect", "name"), GENERATION)
def test_a_stream_tells_them_once_with_its_last_usage(dialect, name):
    (usage,) = streamed(dialect, name, KNOWN)
    assert usage["energy"] == TOLD
    assert streamed(dialect, name, None) == []


@pytest.mark.parametrize(("dialect", "name"), EMBEDDING)
def test_embeddings_tell_them(dialect, name):
    for known, told in ((KNOWN, TOLD), (None, None)):
        body = DIALECTS[dialect].embedded(Route(dialect, name), asked(name), OPENING, [[1.0]], receipt(known))
        assert usage_of(json.loads(body)).get("energy") == told


def test_what_is_not_known_yet_is_null_and_in_no_header():
    told = energy.energy_fields(OPENING, receipt(RequestEnergy("provisional")))["energy"]
    assert [told[name] for name in ("joules", "uncertainty_joules", "method", "boundary")] == [None] * 4
    assert told["record"]
    assert energy.energy_headers(receipt(RequestEnergy("provisional"))) == ()
    assert energy.energy_headers(receipt(None)) == ()
    assert energy.energy_headers(receipt(KNOWN)) == (("x-underlay-energy-joules", "12.3457"),)


def test_a_record_tells_the_price_and_not_what_it_cost_us():
    journey = Journey(
        OPENING.request_id, 1.5, "openai", "chat", "m", "acme", "key_1", "finished", 200, Usage(), "0.25", 1.0, 1.0,
        1, (), energy=KNOWN,
    )  # fmt: skip
    told = json.loads(energy.record(journey))
    assert (told["object"], told["price_usd"], told["joules"]) == ("request.energy", "0.25", KNOWN.joules)
    assert told["carbon"]["location"] == {"value": 0.001, "unit": "gCO2e", "method": "modelled"}
    assert not {"cost", "margin", "tenant", "key_id", "hops"} & told.keys()
