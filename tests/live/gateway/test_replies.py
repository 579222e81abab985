"""Kept replies: whole, good, small, somebody's own, and not for ever."""

from types import SimpleNamespace

import pytest

from underlay.live.gateway.replies import KEPT_BYTES_MAX, KEPT_S, REPLY_BYTES_MAX, Recorder, Replies

SSE = (("x-request-id", "r"), ("content-type", "text/event-stream"))


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def replies(clock):
    return Replies(clock)


def test_a_reply_is_found_by_its_tenant_only(replies):
    replies.keep("req_1", "acme", 200, "application/json", b"{}")
    found = replies.find("req_1", "acme")
    assert (found.status, found.content_type, found.body) == (200, "application/json", b"{}")
    assert replies.find("req_1", "other") is None
    assert replies.find("req_2", "acme") is None


def test_a_reply_is_kept_for_a_day(replies, clock):
    replies.keep("req_1", "acme", 200, "text/plain", b"x")
    clock.now += KEPT_S
    assert replies.find("req_1", "acme")
    clock.now += 1
    assert replies.find("req_1", "acme") is None


def test_what_is_kept_is_bounded_and_the_oldest_goes_first(replies):
    replies.keep("req_large", "acme", 200, "text/plain", b"x" * (REPLY_BYTES_MAX + 1))
    assert replies.find("req_large", "acme") is None
    for number in range(80):
        replies.keep(f"req_{number}", "acme", 200, "text/plain", b"x" * REPLY_BYTES_MAX)
    kept = [number for number in range(80) if replies.find(f"req_{number}", "acme")]
    assert kept == list(range(80 - len(kept), 80))
    assert (len(kept) - 1) * REPLY_BYTES_MAX < len(kept) * REPLY_BYTES_MAX <= KEPT_BYTES_MAX


def test_many_empty_replies_are_bounded_too(replies, monkeypatch):
    monkeypatch.setattr("underlay.live.gateway.replies.KEPT_BYTES_MAX", 1_000_000)
    for number in range(5_000):
        replies.keep(str(number), "acme", 200, "text/plain", b"")
    assert replies.find("0", "acme") is None
    assert replies.find("4999", "acme")


def test_no_tenant_pushes_out_what_is_kept_for_another(replies):
    replies.keep("req_small", "small", 200, "text/plain", b"x")
    for number in range(80):
        replies.keep(f"req_{number}", "large", 200, "text/plain", b"x" * REPLY_BYTES_MAX)
    assert replies.find("req_small", "small")
    assert replies.find("req_0", "large") is None
    assert replies.find("req_79", "large")


class Line:
    """A connection that notes what it was told to do."""

    settings = SimpleNamespace(keepalive_s=1)

    def __init__(self):
        self.told = []

    def __getattr__(self, name):
        return lambda *given: self.told.append((name, *given))


@pytest.fixture
def sent():
    return []


@pytest.fixture
def line():
    return Line()


@pytest.fixture
def recorder(line, sent):
    return Recorder(line, lambda *reply: sent.append(reply))


def test_a_whole_reply_is_recorded_and_sent(recorder, line, sent):
    recorder.send("request", 200, (("content-type", "application/json"),), b"{}")
    assert sent == [(200, "application/json", b"{}")]
    assert line.told == [("send", "request", 200, (("content-type", "application/json"),), b"{}")]


def test_an_error_is_no_answer_to_give_again(recorder, line, sent):
    recorder.send("request", 429, (("content-type", "application/json"),), b"{}")
    assert sent == []
    assert len(line.told) == 1


def test_a_stream_is_recorded_without_its_silences(recorder, line, sent):
    recorder.begin_stream("request", SSE, b"\n")
    for data in (b"data: 1\n\n", b"\n", b"data: 2\n\n"):
        recorder.stream(data)
    assert sent == []
    recorder.end_stream("request", b"data: [DONE]\n\n")
    assert sent == [(200, "text/event-stream", b"data: 1\n\ndata: 2\n\ndata: [DONE]\n\n")]
    assert [what for what, *_ in line.told] == ["begin_stream", "stream", "stream", "stream", "end_stream"]
    assert recorder.settings.keepalive_s == 1


@pytest.mark.parametrize("ending", [("break_stream", b"data: error\n\n"), ("abort",)])
def test_a_stream_that_broke_is_not_kept(recorder, line, sent, ending):
    recorder.begin_stream("request", SSE, b"data: 1\n\n")
    what, *given = ending
    getattr(recorder, what)(*given)
    assert sent == []
    assert line.told[-1] == ending


def test_a_stream_that_grows_too_long_is_sent_and_not_kept(recorder, line, sent):
    recorder.begin_stream("request", SSE, b"x" * REPLY_BYTES_MAX)
    recorder.stream(b"x")
    recorder.end_stream("request", b"x")
    assert sent == []
    assert [what for what, *_ in line.told] == ["begin_stream", "stream", "end_stream"]
