"""Digests of prompts: alike where texts begin alike, and silent about everything else."""

import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import quick

from underlay.domain.prompt import Message, Prompt, Tool, ToolCall
from underlay.live.gateway.blocks import BLOCK_BYTES, BLOCKS_MAX, Digests, beginning, load_secret

DIGESTS = Digests(b"k" * 32)
texts = st.text(max_size=400)
messages = st.lists(
    st.builds(
        Message,
        st.sampled_from(["system", "user", "assistant", "tool"]),
        texts,
        tool_calls=st.lists(st.builds(ToolCall, st.just("c"), st.just("f"), texts), max_size=1).map(tuple),
    ),
    max_size=6,
)


def chat(*turns, tools=()):
    return Prompt("chat", "m", messages=turns, tools=tools)


def user(text):
    return Message("user", text)


@quick
@given(shared=messages, one=messages, other=messages)
def test_conversations_that_begin_alike_share_their_leading_blocks(shared, one, other):
    first, second = chat(*shared, *one), chat(*shared, *other)
    whole = len(beginning(chat(*shared))) // BLOCK_BYTES
    assert DIGESTS.blocks(first)[:whole] == DIGESTS.blocks(second)[:whole] == DIGESTS.blocks(chat(*shared))


@quick
@given(one=messages, other=messages)
def test_blocks_are_alike_exactly_as_far_as_the_texts_are(one, other):
    left, right = beginning(chat(*one)), beginning(chat(*other))
    pairs = zip(DIGESTS.blocks(chat(*one)), DIGESTS.blocks(chat(*other)), strict=False)
    for number, (mine, yours) in enumerate(pairs):
        here = slice(number * BLOCK_BYTES, (number + 1) * BLOCK_BYTES)
        assert (mine == yours) == (left[here] == right[here])


def test_only_whole_blocks_count_and_not_too_many():
    assert DIGESTS.blocks(chat(user("hi"))) == ()
    assert len(DIGESTS.blocks(chat(user("x" * (BLOCK_BYTES - len("\0user\0")))))) == 1
    assert len(DIGESTS.blocks(chat(user("x" * 10_000_000)))) == BLOCKS_MAX
    assert len(DIGESTS.blocks(chat(*[user("é" * 50)] * 10_000))) == BLOCKS_MAX
    assert all(0 <= block < 2**64 for block in DIGESTS.blocks(chat(user("x" * 1000))))


def test_who_said_it_and_which_tools_there_are_make_a_difference():
    long = "x" * 300
    looks = Tool("look", "looks", {"type": "object"})
    told = [
        chat(user(long)),
        chat(Message("system", long)),
        chat(user(long), tools=(looks,)),
        chat(Message("assistant", tool_calls=(ToolCall("c", "f", long),))),
    ]
    assert len({DIGESTS.blocks(prompt)[0] for prompt in told}) == len(told)


def test_completions_have_blocks_by_text_or_by_token_ids():
    def blocks(*given):
        return DIGESTS.blocks(Prompt("completion", "m", texts=given))

    ids = tuple(range(100))
    assert blocks("a" * 300) == blocks("a" * 300, "b" * 300)
    assert len(blocks(ids)) == 3
    assert blocks((*ids[:64], 7, *ids[65:]))[:2] == blocks(ids)[:2]
    assert blocks((*ids[:64], 7, *ids[65:]))[2] != blocks(ids)[2]
    assert blocks() == ()


@pytest.mark.parametrize("operation", ["embedding", "count"])
def test_what_no_engine_caches_has_none(operation):
    assert DIGESTS.blocks(Prompt(operation, "m", messages=(user("x" * 500),), texts=("x" * 500,))) == ()


def test_another_key_tells_nothing():
    prompt, other = chat(user("x" * 500)), Digests(b"o" * 32)
    assert not set(DIGESTS.blocks(prompt)) & set(other.blocks(prompt))
    assert DIGESTS.session("s", "t") != other.session("s", "t")
    assert DIGESTS.request(b"r") != other.request(b"r")
    assert DIGESTS.salt("t") != other.salt("t")


def test_sessions_are_of_one_tenant():
    assert DIGESTS.session("", "acme") == 0
    assert 0 < DIGESTS.session("s", "acme") < 2**64
    assert DIGESTS.session("s", "acme") == DIGESTS.session("s", "acme") != DIGESTS.session("s", "other")
    assert DIGESTS.session("\ud800", "acme")


def test_requests_differ_in_what_their_parts_are_and_where_they_end():
    assert DIGESTS.request(b"ab", b"c") == DIGESTS.request(b"ab", b"c") != DIGESTS.request(b"a", b"bc")
    assert len(DIGESTS.request(b"")) == 32


def test_each_tenant_has_its_own_salt():
    salts = {DIGESTS.salt(tenant) for tenant in ("acme", "other", "")}
    assert len(salts) == 3
    assert all(len(bytes.fromhex(salt)) == 16 for salt in salts)


def test_the_secret_is_made_once_and_closed_to_others(tmp_path):
    folder = tmp_path / "data"
    secret = load_secret(folder)
    (file,) = folder.iterdir()
    assert (len(secret), stat.S_IMODE(file.stat().st_mode)) == (32, 0o600)
    assert load_secret(folder) == secret
    assert load_secret(tmp_path / "elsewhere") != secret


@pytest.mark.parametrize("damage", [b"", b"abc", b"\xff\xfe", b"00" * 31])
def test_a_damaged_secret_is_made_anew(tmp_path, damage):
    load_secret(tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(damage)
    assert load_secret(tmp_path) == load_secret(tmp_path)
    assert len(load_secret(tmp_path)) == 32
