"""Who may talk to the console: the Host it was called by, the page that calls, the key behind the call."""

from __future__ import annotations

import ipaddress
from http.cookies import CookieError, SimpleCookie
from typing import NamedTuple

from starlette.requests import Request

from underlay.console.sessions import Sessions
from underlay.console.views import Views
from underlay.domain.errors import Forbidden, Unauthenticated

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class Caller(NamedTuple):
    """Who is asking, and whether a browser's cookie said so (then the page behind it matters too)."""

    key_id: str
    by_cookie: bool


def split_host(value: str) -> tuple[str, str] | None:
    """Name and port of a Host header or authority, lower-case and without brackets; ``None`` if malformed."""
    name, port = value.strip().lower(), ""
    if name.startswith("["):
        name, bracket, rest = name[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            return None
        port = rest[1:]
    elif name.count(":") == 1:
        name, _, port = name.partition(":")
    if not name or (port and not port.isdecimal()) or any(c in name for c in "/@?# \\"):
        return None
    return name, port


def authority(url: str) -> str:
    """Host and port of an address such as ``http://127.0.0.1:8081``."""
    return url.partition("://")[2].partition("/")[0]


def host_allowed(header: str | None, console_url: str, more: frozenset[str]) -> bool:
    """Whether the Host header names this listener.

    A page of a stranger whose name was re-pointed to this machine (DNS rebinding) still sends its own name.
    Only names are compared, not ports: a tunnel may forward any port to here.
    """
    host = split_host(header or "")
    own = split_host(authority(console_url))
    return host is not None and (
        host[0] in LOOPBACK_NAMES or host[0] in more or (own is not None and host[0] == own[0])
    )


def from_this_machine(request: Request) -> bool:
    """Whether the caller is a process on this machine and not a proxy speaking for somebody else."""
    if "x-forwarded-for" in request.headers or "forwarded" in request.headers:
        return False
    try:
        return request.client is not None and ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False


def cookie_name(request: Request) -> str:
    """Name the session cookie.

    Cookies are shared by all ports of a host, so the port keeps two consoles on one machine apart. The
    ``__Host-`` prefix, which forbids neighbouring domains to overwrite it, is only valid over HTTPS.
    """
    host = split_host(request.headers.get("host", "")) or ("", "")
    name = f"underlay_session_{host[1] or 'default'}"
    return f"__Host-{name}" if request.url.scheme == "https" else name


def cookie(request: Request) -> str | None:
    """Find the session cookie the browser sent, if it did."""
    jar: SimpleCookie = SimpleCookie()
    try:
        jar.load(request.headers.get("cookie", ""))
    except CookieError:
        return None
    found = jar.get(cookie_name(request))
    return found.value if found else None


def bearer(request: Request) -> str | None:
    """Find the key in the Authorization header, if there is one."""
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    return secret.strip() if scheme.lower() == "bearer" and secret.strip() else None


def check_page(request: Request) -> None:
    """Refuse calls that another site's page makes a browser send.

    Programs send neither header; browsers always send ``Sec-Fetch-Site`` to this kind of origin, and
    ``Origin`` with every POST. Another port of this machine is the same *site*, which is why only the same
    *origin* will do.
    """
    site = request.headers.get("sec-fetch-site")
    allowed = ("same-origin", "none") if request.method in SAFE_METHODS else ("same-origin",)
    if site is not None and site not in allowed:
        raise Forbidden("this call came from another site's page", reason="cross_site")
    origin = request.headers.get("origin")
    if origin is not None and origin != f"{request.url.scheme}://{request.headers.get('host', '')}":
        raise Forbidden("this call came from another origin's page", reason="cross_site")


def identify(request: Request, views: Views, sessions: Sessions) -> Caller:
    """Find out who is asking, by key or by cookie. Raises ``Unauthenticated`` or ``Forbidden``."""
    secret = bearer(request)
    by_cookie = secret is None
    if secret is None:
        found = cookie(request)
        secret = sessions.secret(found) if found else None
    key_id = views.authorised(secret) if secret else None
    if key_id is None:
        raise Unauthenticated("log in with a console key: underlay up prints the address that carries it")
    if by_cookie:
        check_page(request)
    return Caller(key_id, by_cookie)
