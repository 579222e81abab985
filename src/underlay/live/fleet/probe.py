"""Is an engine alive, and does it get on? Asked over its own HTTP, and answered by the kernel where it is ours."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

from msgspec import Struct

_REPLY_BYTES_MAX = 1024 * 1024
_GAUGE = re.compile(rb"^(?:llamacpp|vllm):(\w+)(?:\{[^}\n]*\})? ([-+.\deE]+)\r?$", re.MULTILINE)
_CACHE = re.compile(rb"^vllm:cache_config_info\{([^}\n]*)\}", re.MULTILINE)
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 1e6


async def get(address: tuple[str, int], path: str, timeout_s: float, headers: str = "") -> tuple[int, bytes]:
    """Fetch ``path``; returns status and body. Raises ``OSError`` (``TimeoutError`` is one) or ``ValueError``."""
    async with asyncio.timeout(timeout_s):
        reader, writer = await asyncio.open_connection(*address)
        try:
            # HTTP/1.0, so that the body is plain and ends with the connection.
            writer.write(f"GET {path} HTTP/1.0\r\nHost: {address[0]}:{address[1]}\r\n{headers}\r\n".encode())
            reply = await _read(reader)
        finally:
            writer.close()
    head, _, body = reply.partition(b"\r\n\r\n")
    status = head.split(b" ", 2)[1:2]
    if not head.startswith(b"HTTP/1.") or not status:
        raise ValueError("not an HTTP reply")
    return int(status[0]), body


async def _read(reader: asyncio.StreamReader) -> bytes:
    reply = b""
    while more := await reader.read(65_536):
        reply += more
        if len(reply) > _REPLY_BYTES_MAX:
            raise ValueError("the reply is too long")
    return reply


def gauges(body: bytes) -> dict[str, float]:
    """Read llama.cpp's and vLLM's metrics by their short names; the sum, where there are several labels."""
    found: dict[str, float] = {}
    for name, value in _GAUGE.findall(body):
        key = name.decode()
        found[key] = found.get(key, 0.0) + float(value)
    return found


def busy(values: dict[str, float]) -> bool:
    """Whether the engine says that it works on something."""
    return values.get("requests_processing", 0) + values.get("num_requests_running", 0) > 0


def work_done(values: dict[str, float]) -> float:
    """A number that rises while the engine gets on."""
    names = ("n_decode_total", "prompt_tokens_total", "generation_tokens_total")
    return sum(values.get(name, 0.0) for name in names)


def strands(values: dict[str, float]) -> tuple[int, int]:
    """How many strands the engine says it works on, and how many it lets wait."""
    running = values.get("requests_processing", 0) + values.get("num_requests_running", 0)
    waiting = values.get("requests_deferred", 0) + values.get("num_requests_waiting", 0)
    return int(running), int(waiting)


def cache_tokens(metrics: bytes) -> int:
    """How many tokens vLLM's cache holds, by its metrics; 0 where they do not say."""
    found = _CACHE.search(metrics)
    sizes = (
        []
        if found is None
        else [re.search(rb'\b%b="([0-9]{1,9})"' % name, found[1]) for name in (b"block_size", b"num_gpu_blocks")]
    )
    blocks = [int(size[1]) for size in sizes if size is not None]
    return blocks[0] * blocks[1] if len(blocks) == 2 else 0


def resident_mb(pid: int) -> float | None:
    """Memory of a process that is in RAM, weights shared with other replicas included."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_MB
    except (OSError, IndexError, ValueError):
        return None


def cpu_s(pid: int) -> float | None:
    """Processor time that a process has used."""
    signs = process_signs(pid)
    return None if signs is None else signs.cpu_s


class Signs(Struct, frozen=True):
    """What the kernel says of a process: the state of its main thread (a letter) and processor time used."""

    state: str
    cpu_s: float

    @property
    def stopped(self) -> bool:
        """Whether somebody stopped it: it keeps its connections and will say nothing."""
        return self.state == "T"

    def lives_since(self, before: Signs) -> bool:
        """Whether it has worked since, or waits for its turn on a processor: then it is slow and not silent."""
        return self.state == "R" or self.cpu_s > before.cpu_s


def process_signs(pid: int) -> Signs | None:
    """Look at a process; ``None`` where there is none (any more)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return Signs(fields[0], (int(fields[11]) + int(fields[12])) / _TICKS_PER_S)
    except (OSError, IndexError, ValueError):
        return None


class Look(Struct, frozen=True):
    """What one probe found. ``values`` is ``None`` where the engine did not give its metrics in time."""

    at_s: float
    alive: bool
    values: dict[str, float] | None = None
    cpu_s: float | None = None
    trouble: str = ""


class Watch:
    """Judges looks in a row: how often must an engine be silent, or stand still, to be given up?

    An engine that computes one large batch answers no question about its metrics; it is given ``stall_s`` as
    long as it uses the processor, or may do so, and ``strikes`` looks where it does not.
    """

    def __init__(self, strikes: int, stall_s: float) -> None:
        self._strikes_max = strikes
        self._stall_s = stall_s
        self._silent = 0
        self._still = 0
        self._moved_at_s: float | None = None
        self._work: float | None = None
        self._cpu_s: float | None = None
        self._was_busy = False

    def judge(self, look: Look) -> str:
        """Take in a look; returns why the engine is given up, or nothing."""
        if not look.alive:
            self._silent += 1
            return f"silent: {look.trouble}" if self._silent >= self._strikes_max else ""
        self._silent = 0
        if self._moves(look):
            self._still = 0
            self._moved_at_s = look.at_s
            return ""
        return self._standstill(look)

    def _moves(self, look: Look) -> bool:
        """Whether there is nothing to do, or something has been done since the last look."""
        if look.values is None:
            return not self._was_busy
        was_busy, self._was_busy = self._was_busy, busy(look.values)
        work, self._work = self._work, work_done(look.values)
        if not (was_busy and self._was_busy):  # what has just begun may not have got anywhere yet
            return True
        return self._work != work  # less than before: it was started anew

    def _standstill(self, look: Look) -> str:
        moved_at_s = look.at_s if self._moved_at_s is None else self._moved_at_s
        self._moved_at_s = moved_at_s
        if look.at_s - moved_at_s > self._stall_s:
            return f"no progress for {self._stall_s:g} s"
        if look.cpu_s is None:  # somebody else's: nobody can say whether it computes
            return ""
        used_s, self._cpu_s = self._cpu_s, look.cpu_s
        if used_s is None or look.cpu_s > used_s + 0.05:
            return ""
        self._still += 1
        return "no progress" if self._still >= self._strikes_max else ""
