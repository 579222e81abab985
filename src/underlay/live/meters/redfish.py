"""The power of the whole host, as its management controller tells it over Redfish (DMTF DSP0266).

Asked only where the settings name an address, over HTTPS with the certificate checked unless they say otherwise.
An address without a path is searched: the one chassis that tells its power is taken, and if several do, the
settings have to name one, as one may hold the other. Of several entries in ``PowerControl`` the first is the
whole; the others are parts of it on the controllers that list them. Where there is no ``Power`` (deprecated since
2020), ``EnvironmentMetrics`` is read.

Whatever answers is a stranger: one that is slow, long, redirects, or speaks anything but a number is no reading.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from base64 import b64encode
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec

from underlay.live.meters.controller import ControllerFailed, ControllerMeter, is_believable
from underlay.live.meters.meter import Found
from underlay.live.settings import RedfishSettings

REPLY_S = 3.0
REPLY_BYTES_MAX = 1_048_576
#: A controller with more chassis than this is a rack's, and the settings have to name one.
CHASSIS_MAX = 16

_FIX = "see that address, user, password_file and certificate under meters.redfish are right"


class RedfishMeter(ControllerMeter):
    """The host, by its management controller. Lives in one thread, with a loop of its own."""

    family = "redfish"

    def __init__(self, settings: RedfishSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__("redfish:host", clock)
        self._settings = settings
        self._url = urlsplit(settings.url or "")
        self._resource = ""
        self._runner: asyncio.Runner | None = None
        self._session: aiohttp.ClientSession | None = None
        self._asking: asyncio.Task[tuple[float, float]] | None = None

    def _sample(self) -> tuple[float, float]:
        """Takes at most the time of two replies."""
        if self._runner is None:
            self._runner = asyncio.Runner()
        try:
            return self._runner.run(self._ask())
        except (OSError, ValueError, aiohttp.ClientError) as error:
            raise ControllerFailed(str(error) or "no answer in time") from None
        except asyncio.CancelledError:
            raise ControllerFailed("it is over") from None

    def interrupt(self) -> None:
        """End a reading that is going on, from any thread."""
        self._over = True
        asking = self._asking
        if asking is not None:
            with contextlib.suppress(RuntimeError):  # it ended just now
                asking.get_loop().call_soon_threadsafe(asking.cancel)

    def close(self) -> None:
        """Close its connections and its loop."""
        self._over = True
        if self._runner is not None:
            if self._session is not None:
                self._runner.run(self._session.close())
            self._runner.close()
            self._runner = self._session = None

    async def _ask(self) -> tuple[float, float]:
        """The power, and the middle of the time that asking took."""
        self._asking = asyncio.create_task(self._power())
        if self._over:  # interrupted just before there was a task to end
            self._asking.cancel()
        try:
            return await self._asking
        finally:
            self._asking = None

    async def _power(self) -> tuple[float, float]:
        async with asyncio.timeout(2.0 * REPLY_S):
            if not self._resource:
                self._resource = await self._find()
            began_s = self._clock()
            try:
                said = await self._get(self._resource)
            except ControllerFailed:
                self._resource = ""  # the controller may have been replaced
                raise
            power_w = watts(said)
            if power_w is None:
                raise ControllerFailed(f"{self._resource} tells no power")
            return (began_s + self._clock()) / 2.0, power_w

    async def _find(self) -> str:
        """The path of the resource that tells the host's power."""
        if self._url.path.strip("/"):
            return self._url.path
        said = await self._get("/redfish/v1/Chassis")
        chassis = [place for place in map(_link, _list(said, "Members")) if place]
        if len(chassis) > CHASSIS_MAX:
            raise ControllerFailed(f"there are {len(chassis)} chassis; name one's power in meters.redfish.url")
        found = [place for each in chassis if (place := await self._power_of(each))]
        if len(found) != 1:
            told = (
                f"several chassis tell their power ({', '.join(found)})" if found else "no chassis tells its power"
            )
            raise ControllerFailed(f"{told}; name the resource in meters.redfish.url")
        return found[0]

    async def _power_of(self, chassis: str) -> str:
        """The resource of a chassis that tells its power, or nothing."""
        for name in ("Power", "EnvironmentMetrics"):
            place = f"{chassis.rstrip('/')}/{name}"
            try:
                if watts(await self._get(place)) is not None:
                    return place
            except _Missing:
                continue
        return ""

    async def _get(self, path: str) -> Any:
        try:
            async with self._connected().get(
                f"{self._url.scheme}://{self._url.netloc}{path}",
                headers=_headers(self._settings),
                allow_redirects=False,
            ) as reply:
                if reply.status != 200:
                    raise (_Missing if reply.status == 404 else ControllerFailed)(f"{path} answers {reply.status}")
                body = await reply.content.read(REPLY_BYTES_MAX + 1)
                while len(body) <= REPLY_BYTES_MAX and (more := await reply.content.read(REPLY_BYTES_MAX)):
                    body += more
        except TimeoutError:
            raise ControllerFailed(f"no answer within {REPLY_S:g} s") from None
        if len(body) > REPLY_BYTES_MAX:
            raise ControllerFailed(f"{path} answers more than {REPLY_BYTES_MAX} bytes")
        try:
            return msgspec.json.decode(body)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            raise ControllerFailed(f"{path} answers something else than JSON") from None

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            tls = False if self._settings.insecure else ssl.create_default_context()
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=1, ssl=tls),
                timeout=aiohttp.ClientTimeout(total=REPLY_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,  # a small reply may unpack to a great one
            )
        return self._session


class _Missing(ControllerFailed):
    """There is no such resource."""


def watts(said: Any) -> float | None:
    """The power that a ``Power`` or an ``EnvironmentMetrics`` resource tells; ``None`` if it tells none."""
    control = _list(said, "PowerControl")
    if control:
        power = control[0].get("PowerConsumedWatts") if isinstance(control[0], dict) else None
    else:
        power = said.get("PowerWatts") if isinstance(said, dict) else None
        power = power.get("Reading") if isinstance(power, dict) else None
    if isinstance(power, bool) or not isinstance(power, int | float):
        return None
    return float(power) if is_believable(power) else None


def find(settings: RedfishSettings) -> Found:
    """The controller that the settings name, asked once. One that fails now is taken too: it may come back."""
    asked = RedfishMeter(settings)
    answers = asked.read() is not None
    asked.close()  # whoever reads it, does so in a thread and on a loop of its own
    meter = RedfishMeter(settings)
    if answers:
        return Found((meter,), "")
    return Found((meter,), f"{settings.url}: {asked.trouble}", _FIX, wrong=True)


def _headers(settings: RedfishSettings) -> dict[str, str]:
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    if settings.user is not None:
        # Read every time: whoever rotates the password writes the file and is done.
        file = settings.password_file
        password = "" if file is None else file.read_text(encoding="utf-8").strip()
        login = b64encode(f"{settings.user}:{password}".encode()).decode()
        headers["Authorization"] = f"Basic {login}"
    return headers


def _list(said: Any, key: str) -> list[Any]:
    found = said.get(key) if isinstance(said, dict) else None
    return found if isinstance(found, list) else []


def _link(member: Any) -> str:
    place = member.get("@odata.id") if isinstance(member, dict) else None
    return place if isinstance(place, str) and place.startswith("/") else ""
