"""HTTP/1.1 as bytes: what a head must be, which headers it has, and how a reply is framed. No connection is known.

llhttp parses; here is what it leaves open: what it lets pass and RFC 9112 does not, and what a parser's error
means for the client.
"""

from __future__ import annotations

from http import HTTPStatus

from underlay.domain.errors import BadRequest, UnderlayError

_STATUS_LINE = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in HTTPStatus}
_STATUS_LINE[499] = b"HTTP/1.1 499 Client Closed Request\r\n"
_STATUS_LINE[529] = b"HTTP/1.1 529 Overloaded\r\n"

Headers = tuple[tuple[str, str], ...]


class Refused(Exception):
    """Carries our own refusal through httptools' callbacks."""

    def __init__(self, error: UnderlayError) -> None:
        super().__init__(error.message)
        self.error = error


def refusal(error: Exception) -> UnderlayError:
    """The refusal behind a parser error: ours if a callback raised it, else a malformed request."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, Refused):
            return cause.error
        cause = cause.__cause__ or cause.__context__
    return BadRequest(f"not HTTP/1.1: {error}")


def origin_form(target: bytes) -> bytes:
    """The path and query of a target. Whoever takes us for a proxy names a host before them; it means nothing."""
    if target.startswith(b"/"):
        return target
    scheme, found, rest = target.partition(b"://")
    if not found or scheme.lower() not in (b"http", b"https"):
        return target
    _, slash, path = rest.partition(b"/")
    return slash + path if slash else b"/"


def body_line(headers: dict[str, str]) -> bytes:
    """The header line that says how long the body is; nothing if there is none."""
    if "transfer-encoding" in headers:
        return f"transfer-encoding: {headers['transfer-encoding']}".encode("latin-1")
    length = headers.get("content-length", "0")
    return b"" if length.strip("0") == "" else f"content-length: {length}".encode("latin-1")


def check_head(method: str, version: str, header_list: list[tuple[bytes, bytes]]) -> None:
    """Refuse what llhttp lets pass and RFC 9112 does not."""
    if version not in ("1.0", "1.1"):
        raise Refused(BadRequest(f"this listener speaks HTTP/1.1, not HTTP/{version}"))
    if method == "CONNECT":
        raise Refused(BadRequest("this listener is no tunnel"))
    hosts = sum(name.lower() == b"host" for name, _ in header_list)
    if hosts > 1 or (hosts == 0 and version == "1.1"):
        raise Refused(BadRequest(f"a request has one Host header, this one has {hosts}"))


def folded(header_list: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers as a dictionary; repeated ones are joined by commas, as RFC 9110 has it."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in header_list:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def head(status: int, headers: Headers, keep: bool, framing: str) -> bytes:
    """The head of a reply; ``framing`` is the header line that says how its body ends."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    assert lines.count("\n") == len(headers), "a header value with a line break"
    closing = "" if keep else "connection: close\r\n"
    return _STATUS_LINE[status] + f"{lines}{closing}{framing}\r\n".encode("latin-1")


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)
