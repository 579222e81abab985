"""A thousand requests at the same moment, on a key with a budget for a hundred of them."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from pathlib import Path
from typing import Any

import uvloop
from harness import Figures
from live.load import connect, post
from tests.support.keys import Made, make_key, wait_known
from tests.support.platform import RunningPlatform

from underlay.control import journal
from underlay.control.caller_desk import LEASE_TOKENS
from underlay.control.effects import Charge
from underlay.domain.keys import Budget

from .house import chat, house

REQUESTS, PAID = 1_000, 100
TOKENS = 300


def budgets(figures: Figures, folder: Path) -> None:
    """With the answer's length said beforehand, and without; what they spent, and whether each was booked once."""
    with house(folder, slots=64, ttft_ms=20, itl_ms=2, tokens=TOKENS, waiting_max=REQUESTS) as here:
        platform = here.platform
        probe = platform.ask("POST", "/v1/chat/completions", {**chat("Go"), "stream": False})
        prompt = probe.json()["usage"]["prompt_tokens"]
        budget = PAID * (prompt + TOKENS)
        for name, limit in (("length said", TOKENS), ("length unknown", None)):
            key = make_key(platform.data_dir, name, budgets=(Budget("total", tokens=budget),))
            wait_known(platform, key)
            target = post(platform.url, "/v1/chat/completions", chat("Go", limit), key.secret)
            answers = uvloop.run(_all_at_once(target))
            platform.wait_idle(30)
            _say(figures, name, platform, key, answers, budget)


def _say(
    figures: Figures, name: str, platform: RunningPlatform, key: Made, answers: list[tuple[int, bool]], budget: int
) -> None:
    rows = _rows(platform, key)
    spent = sum(row["total"] for row in rows)
    whole = sum(clean for _, clean in answers)
    refused = sum(status == 429 for status, _ in answers)
    how = f"{REQUESTS} at once; {whole} answered whole, {refused} refused; {spent} of {budget} tokens spent"
    figures.add(
        f"{name}: answered whole",
        whole,
        "requests",
        how=f"the budget pays for {PAID}; the rest of those let in is cut",
    )
    figures.add(f"{name}: overspent", max(0, spent - budget), "tokens", at_most=LEASE_TOKENS, how=how)
    booked = _booked(platform, key)
    doubles = len(booked) - len(set(booked))
    how = f"charges in the journal; {len(rows)} rows in the ledger"
    figures.add(f"{name}: charged twice", doubles, "requests", at_most=0, how=how)
    begun = sum(status == 200 for status, _ in answers)
    how = "answers begun less rows in the ledger"
    figures.add(f"{name}: not charged", abs(begun - len(rows)), "requests", at_most=0, how=how)
    figures.add(
        f"{name}: of the budget used", spent / budget * 100, "%", how="what could have been sold and was not"
    )


def _rows(platform: RunningPlatform, key: Made) -> list[dict[str, Any]]:
    """The key's charges as the store has them, once they are all there."""
    until = time.monotonic() + 10
    before = -1
    while True:
        with contextlib.closing(sqlite3.connect(platform.data_dir / "underlay.db")) as store:
            found = store.execute(
                "SELECT request_id, prompt_tokens + completion_tokens FROM charges WHERE key_id = ?", (key.id,)
            ).fetchall()
        if len(found) == before or time.monotonic() > until:
            return [{"request": request, "total": total} for request, total in found]
        before = len(found)
        time.sleep(1)


def _booked(platform: RunningPlatform, key: Made) -> list[str]:
    """The requests that the desk booked, as its journal has them: the ledger would hide a second time."""
    found = []
    for path in sorted((platform.data_dir / "journal").glob("*.journal")):
        for entry, _ in journal.decode(path.read_bytes())[1]:
            found += [e.ticket for e in entry.effects if isinstance(e, Charge) and e.key_id == key.id]
    return found


async def _all_at_once(target: tuple[str, int, bytes]) -> list[tuple[int, bool]]:
    """Connections first, then every request in one go."""
    clients = []
    for start in range(0, REQUESTS, 100):
        batch = [connect(target, b'"content":"') for _ in range(start, start + 100)]
        clients += await asyncio.gather(*batch)
    async with asyncio.timeout(120):
        done = await asyncio.gather(*(client.ask(target[2]) for client in clients))
    for client in clients:
        client.close()
    return [(one.status, one.clean) for one in done]
