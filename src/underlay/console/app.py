"""The console: one page, the JSON it reads, probes and metrics, as a Starlette application.

    GET  /  /journeys  /journeys/{id}  /fleet      the page (it finds out by its address what to show)
    GET  /ui/{version}/{path}                      its files, cacheable for ever
    GET  /api/session                              {public_url, key, models} for the chat page
    POST /api/session  {"key": …}                  log in; DELETE logs out
    GET  /api/platform                             PlatformRow
    GET  /api/replicas                             [ReplicaRow]
    POST /api/replicas/drain  {"replica", "drain"} take one out of service or (false) put it back; ReplicaRow
    GET  /api/journeys?limit=&before=              [Journey], latest first
    GET  /api/journeys/{id}                        Journey
    GET  /api/ledger?group=                        [LedgerRow]
    GET  /openapi.json                             this and the generation APIs, described
    GET  /livez  /readyz[?verbose]  /metrics       without a key from this machine

Records are sent as ``underlay.domain.views`` defines them; errors in the shape OpenAI's clients know.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from typing import Any, TypeVar, get_args

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from underlay.console import guard
from underlay.console.assets import Assets
from underlay.console.openapi import document
from underlay.console.sessions import SESSION_S, Sessions
from underlay.console.views import LedgerGroup, Views
from underlay.domain.errors import (
    BadRequest,
    BodyTooLarge,
    MethodNotAllowed,
    NotFound,
    Unauthenticated,
    UnderlayError,
)

log = logging.getLogger(__name__)

BODY_BYTES_MAX = 4096
JOURNEYS_MAX = 500


_Sent = TypeVar("_Sent", bound=msgspec.Struct)


class _Login(msgspec.Struct, forbid_unknown_fields=True):
    key: str


class _Drain(msgspec.Struct, forbid_unknown_fields=True):
    replica: str
    drain: bool


class _Console:
    """The endpoints. Plain functions of a request; Starlette runs each in a worker thread."""

    def __init__(self, views: Views, assets: Assets, sessions: Sessions) -> None:
        self._views = views
        self._assets = assets
        self._sessions = sessions

    def page(self, request: Request) -> Response:
        """Send the page; reached by another loopback name, send the browser to the one the key is for.

        The generation APIs answer exactly one origin's pages, the console's own address. A redirect keeps
        the address's fragment.
        """
        own = guard.split_host(guard.authority(self._views.platform().console_url))
        asked = guard.split_host(request.headers.get("host", ""))
        if own and asked and own != asked and own[1] == asked[1] and {own[0], asked[0]} <= guard.LOOPBACK_NAMES:
            return RedirectResponse(self._views.platform().console_url + request.url.path, 307)
        return Response(self._assets.shell, media_type="text/html")

    def asset(self, request: Request) -> Response:
        """Send one of the page's files."""
        found = self._assets.files.get(request.path_params["path"])
        if found is None or request.path_params["version"] != self._assets.version:
            raise NotFound("no such file in this version of the console; reload the page")
        headers = {
            "content-type": found.content_type,
            "cache-control": "public, max-age=31536000, immutable",
            "vary": "accept-encoding",
        }
        if "gzip" not in request.headers.get("accept-encoding", ""):
            return Response(found.body, headers=headers)
        return Response(found.gzipped, headers=headers | {"content-encoding": "gzip"})

    def session(self, request: Request) -> Response:
        """Tell the chat page where to send prompts and with which key."""
        self._identify(request)
        return _json(
            {
                "public_url": self._views.public_url(),
                "key": self._views.session_key(),
                "models": self._views.models(),
            }
        )

    async def log_in(self, request: Request) -> Response:
        """Exchange a key for a session cookie."""
        guard.check_page(request)
        login = _decode(await _body(request), _Login, '{"key": "…"}')
        if await run_in_threadpool(self._views.authorised, login.key) is None:
            raise Unauthenticated("this key does not open the console")
        response = Response(status_code=204)
        response.set_cookie(
            guard.cookie_name(request),
            self._sessions.start(login.key),
            max_age=int(SESSION_S),
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return response

    def log_out(self, request: Request) -> Response:
        """End the session, whether or not it still lasts."""
        guard.check_page(request)
        self._sessions.end(guard.cookie(request) or "")
        response = Response(status_code=204)
        secure = request.url.scheme == "https"
        response.delete_cookie(guard.cookie_name(request), httponly=True, samesite="strict", secure=secure)
        return response

    def platform(self, request: Request) -> Response:
        """Send the platform in one line."""
        self._identify(request)
        return _json(self._views.platform())

    def replicas(self, request: Request) -> Response:
        """Send every replica."""
        self._identify(request)
        return _json(self._views.replicas())

    async def drain(self, request: Request) -> Response:
        """Take a replica out of service, or put it back."""
        await run_in_threadpool(self._identify, request)
        wanted = _decode(await _body(request), _Drain, '{"replica": "m/0", "drain": true}')
        return _json(await run_in_threadpool(self._views.drain, wanted.replica, drain=wanted.drain))

    def journeys(self, request: Request) -> Response:
        """Send the latest journeys; the last one's ``at_s`` as ``before`` asks for the next ones."""
        self._identify(request)
        limit = _number(request, "limit", 50, int)
        if not 1 <= limit <= JOURNEYS_MAX:
            raise BadRequest(f"limit must be from 1 to {JOURNEYS_MAX}", param="limit")
        before = _number(request, "before", None, float)
        return _json(self._views.journeys(limit, before))

    def journey(self, request: Request) -> Response:
        """Send one journey."""
        self._identify(request)
        found = self._views.journey(request.path_params["id"])
        if found is None:
            raise NotFound("no such journey: it is not known, or too old and forgotten", param="id")
        return _json(found)

    def ledger(self, request: Request) -> Response:
        """Send charges, one by one or summed."""
        self._identify(request)
        group: LedgerGroup
        for group in get_args(LedgerGroup):
            if group == request.query_params.get("group", "request"):
                return _json(self._views.ledger(group))
        raise BadRequest(f"group must be one of {', '.join(get_args(LedgerGroup))}", param="group")

    def openapi(self, request: Request) -> Response:
        """Send the description of every JSON endpoint of both listeners."""
        self._identify(request)
        platform = self._views.platform()
        return _json(document(platform.version, self._views.public_url(), platform.console_url))

    def livez(self, request: Request) -> Response:
        """Say that the process answers."""
        self._local_or_identify(request)
        return _json({"live": True})

    def readyz(self, request: Request) -> Response:
        """Say whether a prompt would be let in now; with ``verbose`` also why not."""
        self._local_or_identify(request)
        ready, reasons = self._views.ready()
        body: dict[str, Any] = {"ready": ready}
        if "verbose" in request.query_params:
            body["reasons"] = reasons
        return _json(body, 200 if ready else 503)

    def metrics(self, request: Request) -> Response:
        """Send the platform's metrics."""
        self._local_or_identify(request)
        body, content_type = self._views.metrics()
        return Response(body, headers={"content-type": content_type})

    def _identify(self, request: Request) -> guard.Caller:
        return guard.identify(request, self._views, self._sessions)

    def _local_or_identify(self, request: Request) -> None:
        """Probes and scrapers on this machine need no key; a page of another origin cannot read the reply."""
        if not guard.from_this_machine(request):
            self._identify(request)


class _Frame:
    """What holds for every exchange: the Host check before it, the same careful headers after it.

    Written against ASGI itself, so that no reply escapes it, whoever makes it.
    """

    def __init__(self, app: ASGIApp, views: Views, hosts: frozenset[str]) -> None:
        self._app = app
        self._views = views
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = f"con_{secrets.token_hex(12)}"
        scope.setdefault("state", {})["request_id"] = request_id
        extra = _careful_headers(self._views.public_url(), request_id)

        begun = False

        async def send_framed(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = message.setdefault("headers", [])
                present = {name.lower() for name, _ in headers}
                headers.extend(pair for pair in extra if pair[0] not in present)
            await send(message)

        host = Request(scope).headers.get("host")
        if not guard.host_allowed(host, self._views.platform().console_url, self._hosts):
            message = "this console is not known by that host name"
            await _refusal(421, "misdirected_request", message, request_id)(scope, receive, send_framed)
            return
        try:
            await self._app(scope, receive, send_framed)
        except Exception:
            if not begun:
                message = "the console failed; the platform's log has the reason under this request id"
                await _refusal(500, "internal", message, request_id)(scope, receive, send_framed)
            log.exception("the console failed, request %s", request_id)


def create_app(
    views: Views, *, hosts: tuple[str, ...] = (), clock: Callable[[], float] = time.monotonic
) -> Starlette:
    """Build the console over ``views``. ``hosts`` are further names that its pages may be reached by."""
    console = _Console(views, Assets(), Sessions(clock))
    return Starlette(
        routes=[
            *(
                Route(path, console.page, methods=["GET"])
                for path in ("/", "/journeys", "/journeys/{id}", "/fleet")
            ),
            Route("/ui/{version}/{path:path}", console.asset, methods=["GET"]),
            Route("/api/session", console.session, methods=["GET"]),
            Route("/api/session", console.log_in, methods=["POST"]),
            Route("/api/session", console.log_out, methods=["DELETE"]),
            Route("/api/platform", console.platform, methods=["GET"]),
            Route("/api/replicas", console.replicas, methods=["GET"]),
            Route("/api/replicas/drain", console.drain, methods=["POST"]),
            Route("/api/journeys", console.journeys, methods=["GET"]),
            Route("/api/journeys/{id}", console.journey, methods=["GET"]),
            Route("/api/ledger", console.ledger, methods=["GET"]),
            Route("/openapi.json", console.openapi, methods=["GET"]),
            Route("/livez", console.livez, methods=["GET"]),
            Route("/readyz", console.readyz, methods=["GET"]),
            Route("/metrics", console.metrics, methods=["GET"]),
        ],
        middleware=[Middleware(_Frame, views=views, hosts=frozenset(name.lower() for name in hosts))],
        exception_handlers={UnderlayError: _on_error, HTTPException: _on_http_error},
    )


def _careful_headers(public_url: str, request_id: str) -> list[tuple[bytes, bytes]]:
    policy = (
        "default-src 'self'; script-src 'self'; style-src 'self'; object-src 'none'; base-uri 'none'; "
        f"frame-ancestors 'none'; form-action 'self'; connect-src 'self' {public_url}; "
        "require-trusted-types-for 'script'"
    )
    headers = {
        "content-security-policy": policy,
        "x-content-type-options": "nosniff",
        "referrer-policy": "same-origin",
        "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "cache-control": "no-store",
        "x-request-id": request_id,
    }
    return [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]


def _json(body: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(body), status, media_type="application/json")


def _refusal(status: int, code: str, message: str, request_id: str, param: str | None = None) -> Response:
    kind = "server_error" if status >= 500 else "invalid_request_error"
    error = {"message": message, "type": kind, "param": param, "code": code, "request_id": request_id}
    return _json({"error": error}, status)


def _on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, UnderlayError)
    refusal = _refusal(error.status, error.reason, error.message, request.state.request_id, error.param)
    if error.status == 401:
        refusal.headers["www-authenticate"] = 'Bearer realm="Underlay console"'
    return refusal


def _on_http_error(request: Request, error: Exception) -> Response:
    """Starlette's own errors (no such path, wrong method) in the shape of all others."""
    assert isinstance(error, HTTPException)
    ours = MethodNotAllowed if error.status_code == 405 else NotFound
    refusal = _refusal(error.status_code, ours.default_reason, error.detail, request.state.request_id)
    refusal.headers.update(error.headers or {})
    return refusal


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > BODY_BYTES_MAX:
            raise BodyTooLarge(f"what is sent here has at most {BODY_BYTES_MAX} bytes")
    return bytes(body)


def _decode(body: bytes, kind: type[_Sent], example: str) -> _Sent:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        param = kind.__struct_fields__[0]
        raise BadRequest(f"what is sent here looks like {example}: {error}", param=param) from None


def _number(request: Request, name: str, default: Any, kind: type[int | float]) -> Any:
    text = request.query_params.get(name)
    if text is None:
        return default
    try:
        return msgspec.convert(text, kind, strict=False)
    except msgspec.ValidationError:
        raise BadRequest(f"{name} must be a number", param=name) from None
