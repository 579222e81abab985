"""Enough HTTP to talk to a platform, and quick to load.

The standard library's client takes as long to import as a small model takes to its first token; this one speaks
plain HTTP/1.1, one exchange per connection, and streams what arrives.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import IO, Any, NamedTuple, Self
from urllib.parse import urlsplit

from underlay.cli._says import DENIED, FAILED, NOT_FOUND, UNREACHABLE, Failure

LINE_BYTES_MAX = 1 << 20
CONNECT_TIMEOUT_S = 5.0


class Address(NamedTuple):
    """An ``http`` or ``https`` address taken apart."""

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def of(cls, url: str) -> Address:
        """Take an address apart, or fail in words."""
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise Failure("bad_url", f"not an address: {url}", "http://127.0.0.1:8080")
        return cls(
            parts.scheme, parts.hostname, port or (443 if parts.scheme == "https" else 80), parts.path.rstrip("/")
        )

    @property
    def authority(self) -> str:
        """Host and port as the Host header names them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = {"http": 80, "https": 443}[self.scheme] == self.port
        return host if usual else f"{host}:{self.port}"


class Reply:
    """A reply whose body is read as it arrives. Close it, or use it in a ``with`` block."""

    def __init__(self, connection: socket.socket, url: str) -> None:
        self._connection = connection
        self._file: IO[bytes] = connection.makefile("rb")
        self._url = url
        self.headers: dict[str, str] = {}
        with self._translated():
            self.status = self._read_status()
            while self.status // 100 == 1:
                self._read_headers()
                self.status = self._read_status()
            self.headers = self._read_headers()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up; the other side stops working on it."""
        self._file.close()
        self._connection.close()

    def lines(self) -> Iterator[str]:
        """The body, line by line, each as soon as it is whole."""
        rest = b""
        for data in self.parts():
            *whole, rest = (rest + data).split(b"\n")
            for line in whole:
                yield line.rstrip(b"\r").decode("utf-8", "replace")
        if rest:
            yield rest.decode("utf-8", "replace")

    def json(self) -> Any:
        """The whole body as JSON."""
        try:
            return json.loads(b"".join(self.parts()))
        except ValueError:
            raise Failure("bad_reply", f"{self._url} did not answer with JSON", exit_code=UNREACHABLE) from None

    def parts(self) -> Iterator[bytes]:
        """The body, as it arrives."""
        with self._translated():
            if "chunked" in self.headers.get("transfer-encoding", "").lower():
                yield from self._chunks()
            elif "content-length" in self.headers:
                yield self._exactly(int(self.headers["content-length"]))
            else:
                while data := self._file.read1(65_536):  # type: ignore[attr-defined]
                    yield data

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self._line().partition(b";")[0], 16):
            yield self._exactly(size)
            self._line()
        while self._line():
            pass

    def _exactly(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) < size:
            raise EOFError
        return data

    def _line(self) -> bytes:
        line = self._file.readline(LINE_BYTES_MAX)
        if not line.endswith(b"\n"):
            raise EOFError
        return line.rstrip(b"\r\n")

    def _read_status(self) -> int:
        version, status, *_ = self._line().split(b" ", 2)
        if not version.startswith(b"HTTP/1."):
            raise ValueError
        return int(status)

    def _read_headers(self) -> dict[str, str]:
        headers = {}
        while line := self._line():
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        return headers

    def _translated(self) -> _Translated:
        return _Translated(self._url)


class _Translated:
    """Turns what goes wrong on a connection into words."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, TimeoutError):
            raise Failure("timeout", f"{self._url} did not answer in time", exit_code=UNREACHABLE) from None
        if isinstance(error, ConnectionRefusedError):
            message = f"nobody listens at {self._url}"
            raise Failure("unreachable", message, "underlay up", exit_code=UNREACHABLE) from None
        if isinstance(error, OSError):
            message = f"{self._url} cannot be reached: {error.strerror or error}"
            raise Failure("unreachable", message, exit_code=UNREACHABLE) from None
        if isinstance(error, EOFError):
            message = f"{self._url} hung up before the end of its answer"
            raise Failure("cut_off", message, exit_code=UNREACHABLE) from None
        if isinstance(error, ValueError):
            raise Failure("bad_reply", f"{self._url} does not speak HTTP", exit_code=UNREACHABLE) from None


def call(
    url: str, path: str, *, key: str | None = None, body: dict[str, Any] | None = None, timeout_s: float = 10.0
) -> Reply:
    """Send a request (POST if it has a body) and give the reply, good or bad, for ``with``."""
    address = Address.of(url)
    content = b"" if body is None else json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
    head = [
        f"{'GET' if body is None else 'POST'} {address.path}{path} HTTP/1.1",
        f"host: {address.authority}",
        "connection: close",
        "user-agent: underlay",
    ]
    if key:
        if not key.isascii() or not key.isprintable():
            raise Failure("bad_key", "the key has characters that no key has", exit_code=DENIED)
        head.append(f"authorization: Bearer {key}")
    if body is not None:
        head += ["content-type: application/json", f"content-length: {len(content)}"]
    with _Translated(url):
        connection = _connect(address, timeout_s)
        try:
            connection.sendall("\r\n".join([*head, "", ""]).encode("ascii") + content)
        except BaseException:
            connection.close()
            raise
    return _opened(connection, url)


def _opened(connection: socket.socket, url: str) -> Reply:
    try:
        return Reply(connection, url)
    except BaseException:
        connection.close()
        raise


def _connect(address: Address, timeout_s: float) -> socket.socket:
    connection = socket.create_connection((address.host, address.port), min(timeout_s, CONNECT_TIMEOUT_S))
    connection.settimeout(timeout_s)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if address.scheme == "http":
        return connection
    import ssl  # rarely needed, slow to load

    return ssl.create_default_context().wrap_socket(connection, server_hostname=address.host)


def get(url: str, path: str, *, key: str | None = None, timeout_s: float = 10.0) -> Any:
    """The JSON at a path, or a failure in the platform's own words."""
    with call(url, path, key=key, timeout_s=timeout_s) as reply:
        check(reply)
        return reply.json()


def check(reply: Reply) -> None:
    """Raise a failure unless the reply is a good one."""
    if reply.status == 200:
        return
    try:
        said = reply.json()
    except Failure:
        said = None
    raise failure_in(said, reply.status)


def failure_in(said: Any, status: int = 500) -> Failure:
    """The failure that an error object speaks of."""
    error = said.get("error") if isinstance(said, dict) else None
    fields = error if isinstance(error, dict) else {}
    code = str(fields.get("code") or fields.get("type") or f"http_{status}")
    message = str(fields.get("message") or f"the platform answered with status {status}")
    exit_code = {401: DENIED, 403: DENIED, 404: NOT_FOUND, 408: UNREACHABLE, 504: UNREACHABLE}.get(status, FAILED)
    hint = {401: "underlay keys create --tenant NAME, then --key or UNDERLAY_KEY", 403: "underlay keys list"}
    return Failure(code, message, hint.get(status, ""), exit_code=exit_code)
