"""HTTP of strangers: however their bytes are cut up, the same requests come out, and nothing grows without bound."""

import asyncio
import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from underlay.domain.errors import UnderlayError
from underlay.live.gateway.http import Connection, Request
from underlay.live.settings import PublicSettings


class Socket(asyncio.Transport):
    """What a connection writes to. ``stuck`` is a client that reads nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.ended = ""
        self.reading = True

    def get_extra_info(self, name, default=None):
        return ("10.0.0.1", 1) if name == "peername" else default

    def set_write_buffer_limits(self, high=None, low=None):
        pass

    def write(self, data):
        assert not self.ended, "written after the end"
        self.sent += data

    def write_eof(self):
        self.ended = self.ended or "eof"

    def close(self):
        self.ended = "closed"

    def abort(self):
        self.ended = "aborted"

    def is_closing(self):
        return self.ended in ("closed", "aborted")

    def pause_reading(self):
        assert self.reading
        self.reading = False

    def resume_reading(self):
        assert not self.reading
        self.reading = True


class Desk:
    """A listener that answers each request with what it understood of it, at once or when told to."""

    def __init__(self, *, at_once: bool = True, **limits) -> None:
        self.settings = PublicSettings(**limits)
        self.connections: set[Connection] = set()
        self.draining = False
        self.at_once = at_once
        self.heard: list[tuple] = []
        self.open: list[Request] = []
        self.gone = 0

    def accepts(self, connection):
        return len(self.connections) < self.settings.connections_max

    def screen(self, request):
        pass

    def received(self, request):
        self.heard.append((request.method, request.path, request.query, request.body, dict(request.headers)))
        if self.at_once:
            self.answer(request)
            return None
        self.open.append(request)
        return self

    def answer(self, request):
        request.connection.send(request, 200, (("x-path", request.path),), request.body)

    def refuse(self, connection, error: UnderlayError, path, headers):
        request = Request(connection, 0.0)
        request.method, request.path, request.keep_alive = "POST", path, False
        connection.busy = True
        self.heard.append(("refused", error.status, error.reason))
        connection.send(request, error.status, (), error.reason.encode())

    def client_gone(self):
        self.gone += 1

    def pause(self):
        pass

    def resume(self):
        pass


def connect(desk: Desk) -> tuple[Connection, Socket]:
    connection, transport = Connection(desk), Socket()
    connection.connection_made(transport)
    return connection, transport


def say(data: bytes, desk: Desk | None = None, cuts: list[int] | None = None) -> tuple[Desk, Connection, Socket]:
    desk = desk or Desk()
    connection, transport = connect(desk)
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts or [])})
    for begin, end in itertools.pairwise(edges):
        connection.data_received(data[begin:end])
    return desk, connection, transport


def request(body: bytes = b"{}", path: str = "/v1/x?a=1", head: str = "", method: str = "POST") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: h\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def chunked(*parts: bytes, trailer: bytes = b"") -> bytes:
    body = b"".join(b"%x;note=1\r\n%b\r\n" % (len(part), part) for part in parts)
    return (
        b"POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + body + b"0\r\n" + trailer + b"\r\n"
    )


FINE = [
    request(),
    request(b"x" * 300, head="X-A: 1\r\nX-A: 2\r\n"),
    request(b"", "/", method="GET"),
    chunked(b"ab", b"cde" * 50),
    chunked(b"x", trailer=b"Trailing: yes\r\n"),
    request(path="http://elsewhere.example/v1/x?b=2"),
    request(head="Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"),
    b"\r\nGET /after/blank HTTP/1.1\r\nHost: h\r\n\r\n",
]
FOUL = [
    b"GET / HTTP/1.1\nHost: h\n\n",
    b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: h\r\nHost: g\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/2.0\r\nHost: h\r\n\r\n",
    b"CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\nwhatever",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET /%00\x00 HTTP/1.1\r\nHost: h\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
]


def worded(heard: list[tuple]) -> list[tuple]:
    """Without the words of refusals, which are the parser's own."""
    return [entry[:2] if entry[0] == "refused" else entry for entry in heard]


@given(
    st.lists(st.sampled_from(FINE), min_size=1, max_size=4),
    st.none() | st.sampled_from(FOUL),
    st.lists(st.integers(0, 10_000), max_size=30),
)
@settings(max_examples=150, deadline=None)
def test_any_cutting_up_of_the_bytes_gives_the_same_requests(fine, foul, cuts):
    data = b"".join(fine) + (foul or b"")
    whole, _, sent_whole = say(data)
    cut, _, sent_cut = say(data, cuts=cuts)
    assert worded(cut.heard) == worded(whole.heard)
    assert len(whole.heard) == len(fine) + bool(foul)
    assert sent_cut.sent == sent_whole.sent
    assert sent_cut.ended == sent_whole.ended


@pytest.mark.parametrize("data", FOUL, ids=range(len(FOUL)))
def test_foul_requests_are_refused_once_and_the_connection_ends(data):
    desk, connection, transport = say(data + request())
    assert [entry[0] for entry in desk.heard] == ["refused"]
    assert desk.heard[0][1] == 400
    assert transport.sent.startswith(b"HTTP/1.1 400 ")
    assert transport.sent.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in transport.sent
    assert transport.ended == "eof"  # the client still sends: only our side is closed, so that it can read why
    connection.sweep(connection.deadline + 0.1)
    assert transport.ended == "aborted"


def test_an_answer_is_not_lost_to_garbage_behind_its_request():
    desk = Desk(at_once=False)
    _, connection, transport = say(request(b"first") + b"garbage\r\n", desk)
    assert transport.sent == b""
    desk.answer(desk.open[0])
    assert transport.sent.endswith(b"first")
    assert b"connection: close" in transport.sent
    assert transport.sent.count(b"HTTP/1.1 ") == 1
    connection.data_received(request(b"second"))
    assert len(desk.heard) == 1


def test_pipelined_requests_are_answered_in_order_however_many():
    desk, _, transport = say(b"".join(request(b"", f"/{n}", method="GET") for n in range(3000)))
    assert [int(found) for found in re.findall(rb"x-path: /(\d+)", transport.sent)] == list(range(3000))
    assert len(desk.heard) == 3000


def test_a_long_row_behind_a_slow_answer_is_served_without_recursion():
    desk = Desk(at_once=False)
    _, _connection, transport = say(b"".join(request(b"", f"/{n}", method="GET") for n in range(3000)), desk)
    assert not transport.reading
    desk.at_once = True
    desk.answer(desk.open[0])
    assert [int(found) for found in re.findall(rb"x-path: /(\d+)", transport.sent)] == list(range(3000))
    assert transport.reading


def test_who_does_not_read_replies_is_not_served_more_of_them():
    desk, connection, transport = say(request(b"1"))
    connection.pause_writing()
    assert not transport.reading
    connection.data_received(request(b"2") + request(b"3"))  # was on its way already
    assert len(desk.heard) == 1
    connection.resume_writing()
    assert transport.reading
    assert [entry[3] for entry in desk.heard] == [b"1", b"2", b"3"]
    connection.pause_writing()
    connection.sweep(connection.unread_since + desk.settings.unread_timeout_s + 1)
    assert transport.ended == "aborted"


def test_a_closing_connection_whose_client_reads_nothing_is_given_up():
    _desk, connection, transport = say(request(head="Connection: close\r\n"))
    assert transport.ended == "closed"
    connection.sweep(connection.deadline - 0.1)
    assert transport.ended == "closed"
    connection.sweep(connection.deadline + 0.1)
    assert transport.ended == "aborted"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 5000, 431),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 5000 + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * 5000, 431),
        (b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: h\r\n\r\n", 431),
        (b"".join(b"X%d: 1\r\n" % n if n else b"GET / HTTP/1.1\r\nHost: h\r\n" for n in range(500)), 431),
        (request(b"a" * 9000), 413),
        (chunked(b"a" * 9000), 413),
        (chunked(*[b"a" * 100] * 90), 413),
        (chunked(b"a", trailer=b"T: " + b"x" * 60_000), 413),
        (chunked(b"a", trailer=b"T: x\r\n" * 10_000), 413),
        (chunked()[:-5] + b"1" + b";ext" * 20_000, 413),
    ],
)
@pytest.mark.parametrize("step", [7, 1000, 100_000])
def test_nothing_is_taken_in_beyond_its_limit(data, status, step):
    desk = Desk(header_bytes_max=4000, body_bytes_max=8000)
    connection, _transport = connect(desk)
    for begin in range(0, len(data), step):
        connection.data_received(data[begin : begin + step])
        if desk.heard:
            break
    if step == 100_000 and not (desk.heard and desk.heard[0][0] == "refused"):
        return  # it came in one piece, no larger than what is read at a time
    assert desk.heard
    assert desk.heard[0][:2] == ("refused", status)
    assert begin <= 2 * 8000 + 4000 + 1000 + step


def test_a_limit_counts_for_each_request_alone():
    desk = Desk(header_bytes_max=200, body_bytes_max=1000)
    many = b"".join(request(b"x" * 900) for _ in range(50))
    for step in (3, 150, 10_000, 100_000):
        heard, *_ = say(many, Desk(header_bytes_max=200, body_bytes_max=1000), list(range(0, len(many), step)))
        assert [entry[0] for entry in heard.heard] == ["POST"] * 50
    assert not desk.heard


def test_a_continue_is_not_put_into_the_middle_of_a_reply():
    desk = Desk(at_once=False)
    head = "Expect: 100-continue\r\n"
    _, connection, transport = say(request(b"one", head=head), desk)
    assert transport.sent == b"HTTP/1.1 100 Continue\r\n\r\n"
    desk.open[0].connection.begin_stream(desk.open[0], (), b"part")
    before = transport.sent
    connection.data_received(request(b"two", head=head))
    assert transport.sent == before


def test_time_limits():
    desk = Desk(header_timeout_s=1, body_timeout_s=5, idle_timeout_s=10)
    connection, transport = connect(desk)
    connection.sweep(connection.deadline + 0.1)
    assert (transport.sent, transport.ended) == (b"", "closed")  # it never asked: nothing to say

    for data in (b"POST / HT", request(b"12345")[:-1]):
        _, connection, transport = say(data, desk)
        connection.sweep(connection.deadline - 0.1)
        assert transport.sent == b""
        connection.sweep(connection.deadline + 0.1)
        assert transport.sent.startswith(b"HTTP/1.1 408 ")

    _, connection, transport = say(request() + b"\r\n", desk)
    connection.sweep(connection.deadline + 0.1)
    assert transport.ended == "closed"
    assert b"408" not in transport.sent


def test_half_a_request_behind_a_reply_has_its_own_time():
    desk = Desk(at_once=False, header_timeout_s=1, idle_timeout_s=1000)
    _, connection, transport = say(request() + b"POST / HT", desk)
    connection.sweep(connection.deadline + 2000)  # busy: no limit holds
    assert not transport.ended
    desk.answer(desk.open[0])
    connection.sweep(connection.deadline + 0.1)
    assert b"HTTP/1.1 408 " in transport.sent


def test_too_many_connections_are_told_so():
    desk = Desk(connections_max=1)
    connect(desk)
    _, transport = connect(desk)
    assert transport.sent.startswith(b"HTTP/1.1 503 ")
    assert transport.ended == "closed"
    assert len(desk.connections) == 1


def test_old_clients_get_no_chunks_and_no_clean_end_of_a_broken_stream():
    desk = Desk(at_once=False)
    _, connection, transport = say(b"GET / HTTP/1.0\r\n\r\n", desk)
    connection.begin_stream(desk.open[0], (), b"a")
    connection.stream(b"b")
    assert transport.sent.endswith(b"\r\n\r\nab")
    connection.break_stream(b"error")
    assert transport.ended == "aborted"


def test_broken_streams_lack_their_end_mark():
    desk = Desk(at_once=False)
    _, connection, transport = say(request(), desk)
    connection.begin_stream(desk.open[0], (), b"a")
    connection.break_stream(b"error")
    assert transport.sent.endswith(b"5\r\nerror\r\n")
    assert transport.ended == "closed"


def test_who_hangs_up_is_gone():
    desk = Desk(at_once=False)
    _, connection, _ = say(request(), desk)
    connection.connection_lost(None)
    assert desk.gone == 1
    assert not desk.connections
    desk.answer(desk.open[0])  # goes nowhere
