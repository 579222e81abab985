"""The engine to be measured: one of ours, started as ``underlay up`` does it, or somebody else's at an address."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from underlay.live.calibration.asking import CalibrationFailed, Server
from underlay.live.fleet import probe
from underlay.live.fleet.process import ProcessFleet
from underlay.live.locate import prepare
from underlay.live.settings import ModelSettings

#: What the child of our own is started with (``engines.llamacpp_server``).
OWN_STEP_TOKENS = 512
_LOOK_S = 0.05
_PROPS_S = 5.0


@contextlib.asynccontextmanager
async def started(
    model: ModelSettings, data_dir: Path, progress: Callable[[str], None] = lambda _: None
) -> AsyncIterator[Server]:
    """One replica of ``model`` for the length of a ``with`` block; when that is left, no process is left.

    ``model.engine.threads`` should be what a replica gets among its siblings. Raises ``CalibrationFailed``.
    """
    prepare(data_dir)
    alone = model.engine.model_copy(update={"replicas": 1})
    fleet = ProcessFleet(
        (model.model_copy(update={"engine": alone}),), data_dir, on_seen=lambda _: None, on_lost=lambda *_: None
    )
    try:
        await fleet.start(progress)
        status = fleet.statuses()[0]
        while status.state != "ready":
            if status.state == "lost":
                raise CalibrationFailed(f"the engine does not start: {status.why}")
            await asyncio.sleep(_LOOK_S)
        yield Server(
            status.address,
            "llamacpp",
            model.name,
            model.engine.slots,
            OWN_STEP_TOKENS,
            model.context_tokens,
            pid=status.pid,
        )
    finally:
        await fleet.stop()


class _Generation(Struct, frozen=True):
    n_ctx: int = 0


class _Props(Struct):
    total_slots: int = 0
    default_generation_settings: _Generation = _Generation()


async def found(
    url: str,
    model: str,
    *,
    slots: int | None = None,
    step_tokens: int | None = None,
    context_tokens: int | None = None,
    api_key: str = "",
) -> Server:
    """The server at an address. llama.cpp says itself how many slots it has; of others it must be told.

    Raises ``CalibrationFailed`` if nobody answers there, and ``ValueError`` for what is no address.
    """
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError(f"{url!r} is no address of an engine; write http://host:port")
    address = (parts.hostname, parts.port or 80)
    prefix = parts.path.rstrip("/").removesuffix("/v1")
    props = await _props(address, prefix)
    own = props is not None and props.total_slots > 0
    return Server(
        address,
        "llamacpp" if own else "openai",
        model,
        slots or (props.total_slots if props is not None and own else 8),
        step_tokens or 2048,
        context_tokens or (props.default_generation_settings.n_ctx if props is not None else 0) or 4096,
        prefix,
        api_key,
    )


async def _props(address: tuple[str, int], prefix: str) -> _Props | None:
    """What llama.cpp says of itself; ``None`` from any other server."""
    try:
        status, body = await probe.get(address, f"{prefix}/props", _PROPS_S)
    except (OSError, ValueError) as error:
        raise CalibrationFailed(f"nobody answers at {address[0]}:{address[1]}: {error or 'no answer'}") from None
    if status != 200:
        return None
    try:
        return msgspec.json.decode(body, type=_Props)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def threads_each(model: ModelSettings) -> int:
    """The threads that a replica gets where it has as many siblings as in the settings (``fleet.process``)."""
    return model.engine.threads or max(1, len(os.sched_getaffinity(0)) // model.engine.replicas)
