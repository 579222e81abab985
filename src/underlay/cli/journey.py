"""``underlay journey``: the biography of a request, as a waterfall."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from pathlib import Path
from typing import Any

import click

from underlay.cli import _client, _energy, _says, _target
from underlay.cli._options import json_option, place_options
from underlay.cli._says import NOT_FOUND, Failure
from underlay.cli._target import Target, console_target

BAR_CHARS = 24
LISTED_MAX = 500


@click.command()
@click.argument("request_id", metavar="[ID]", required=False)
@click.option(
    "--limit", type=click.IntRange(1, LISTED_MAX), default=20, show_default=True, help="How many to list."
)
@click.option("--key", help="The key.  [default: this machine's local key; env: UNDERLAY_KEY]")
@click.option("--url", help="A console's address.  [default: the one that runs here]")
@place_options
@json_option
def command(
    request_id: str | None,
    limit: int,
    key: str | None,
    url: str | None,
    config: Path | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Show what happened to a request, step by step.

    ID is what replies carry as x-request-id, or enough of its beginning; without it the latest journeys are
    listed. Works without a running platform too, from what it has stored.

    \b
    Examples:
      underlay journey
      underlay journey req_7Gk2
      underlay journey req_7Gk2 --json
    """  # noqa: D301  # click's mark for text that is not to be wrapped
    folder = _target.data_dir(data_dir, config, os.environ)
    told = _Told(console_target(url, key, folder), None if url else folder)
    if request_id is None:
        _list(told.latest(limit), as_json=as_json)
        return
    journey = told.find(request_id)
    if as_json:
        _says.result_json("journey", {"journey": journey})
    else:
        _says.result(waterfall(journey))


class _Told:
    """Journeys, from the platform that runs and from the store that stays."""

    def __init__(self, to: Target | None, folder: Path | None) -> None:
        self._to = to
        self._folder = folder

    def latest(self, limit: int) -> list[dict[str, Any]]:
        """The latest journeys."""
        if self._to is not None:
            return list(self._get(f"/api/journeys?limit={limit}"))
        return self._stored(lambda store: store.journeys(limit))

    def find(self, begins: str) -> dict[str, Any]:
        """The one journey whose id is this or begins like this."""
        found = self._running(begins) or self._stored(lambda store: _beginning(store, begins))
        exact = [journey for journey in found if journey["id"] == begins]
        if not found:
            raise Failure("not_found", f"no journey {begins}", "underlay journey", exit_code=NOT_FOUND)
        if len(found) > 1 and not exact:
            ids = ", ".join(journey["id"] for journey in found[:5])
            raise Failure("ambiguous", f"{begins} could be {ids}", "a longer beginning", exit_code=NOT_FOUND)
        return (exact or found)[0]

    def _running(self, begins: str) -> list[dict[str, Any]]:
        if self._to is None:
            return []
        if begins.replace("_", "").replace("-", "").isalnum() and begins.isascii():
            try:
                return [self._get(f"/api/journeys/{begins}")]
            except Failure as failure:
                if failure.exit_code != NOT_FOUND:
                    raise
        return [journey for journey in self.latest(LISTED_MAX) if journey["id"].startswith(begins)]

    def _get(self, path: str) -> Any:
        assert self._to is not None
        assert self._to.console_url is not None
        return _client.get(self._to.console_url, path, key=self._to.key)

    def _stored(self, read: Any) -> list[dict[str, Any]]:
        if self._folder is None:
            return []
        import msgspec

        from underlay.live.store import Store, store_path

        if not store_path(self._folder).exists():
            return []
        with Store(self._folder) as store:
            return [msgspec.to_builtins(journey) for journey in read(store)]


def _beginning(store: Any, begins: str) -> list[Any]:
    return [store.journey(journey_id) for journey_id in store.journeys_beginning(begins)]


def _list(journeys: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        _says.result_json("journey", {"journeys": journeys})
        return
    if not journeys:
        _says.progress("no journeys yet; 'underlay ask' makes one")
        return
    rows = [
        [
            journey["id"],
            _says.moment(journey["at_s"]),
            journey["model"],
            journey["tenant"],
            f"{journey['outcome']} {journey['status']}",
            f"{journey['usage']['prompt_tokens']}+{journey['usage']['completion_tokens']}",
            _milliseconds(journey["ttft_ms"]) if journey["ttft_ms"] is not None else "",
            _milliseconds(journey["duration_ms"]),
        ]
        for journey in journeys
    ]
    heads = ["id", "at", "model", "tenant", "outcome", "tokens", "first token", "duration"]
    _says.result(_says.table(heads, rows))


def waterfall(journey: dict[str, Any]) -> str:
    """A journey as text: what came of it, then each step with its bar on a common time line."""
    hops = journey["hops"]
    end_ms = max([journey["duration_ms"], 0.001, *(hop["start_ms"] + hop["duration_ms"] for hop in hops)])
    names = max([len(hop["name"]) for hop in hops], default=0)
    lines = [*_headline(journey), ""]
    for hop in hops:
        lines += _hop_lines(hop, end_ms, names)
    return "\n".join(lines)


def _headline(journey: dict[str, Any]) -> list[str]:
    usage = journey["usage"]
    outcome = f"{journey['outcome']} {journey['status']}"
    if journey.get("reason"):
        outcome += f" ({journey['reason']})"
    first = f", first token after {_milliseconds(journey['ttft_ms'])}" if journey["ttft_ms"] is not None else ""
    cached = f" ({usage['cached_tokens']} cached)" if usage["cached_tokens"] else ""
    attempts = f", {journey['attempts']} attempts" if journey["attempts"] > 1 else ""
    facts = [
        journey["model"],
        f"{usage['prompt_tokens']}{cached} + {usage['completion_tokens']} tokens",
        f"${journey['money_usd']}",
        journey["tenant"],
        f"{journey['dialect']} {journey['operation']}",
        _says.moment(journey["at_s"]),
    ]
    took = f"{outcome} in {_milliseconds(journey['duration_ms'])}{first}{attempts}"
    lines = [
        f"{_says.bold(_says.harmless(journey['id']))}  {_says.harmless(took)}",
        _says.harmless(" · ".join(facts)),
    ]
    if journey.get("energy"):
        lines.append(_says.harmless(_energy.line(journey["energy"])))
    if journey.get("ignored"):
        lines.append(_says.harmless(f"without effect here: {', '.join(journey['ignored'])}"))
    return lines


def _hop_lines(hop: dict[str, Any], end_ms: float, names: int) -> list[str]:
    joules = hop.get("joules")  # a journey that was stored by an older release has none
    facts = [
        hop["who"],
        f"{hop['tokens']} tokens" if hop["tokens"] is not None else "",
        f"{joules:.3g} J" if joules is not None else "",
        hop["why"],
    ]
    head = (
        f"  {hop['start_ms']:>9.1f} ms  {hop['name'].ljust(names)}  {hop['duration_ms']:>9.1f} ms  "
        f"{_bar(hop['start_ms'], hop['duration_ms'], end_ms)}  "
    )
    room = max(24, shutil.get_terminal_size((110, 24)).columns - len(head)) if sys.stdout.isatty() else 10_000
    text = _says.harmless("; ".join(fact for fact in facts if fact))
    wrapped = textwrap.wrap(text, room, break_long_words=False) or [""]
    rest = [" " * len(head) + _says.dim(line) for line in wrapped[1:]]
    return [(head + _says.dim(wrapped[0])).rstrip() if wrapped[0] else head.rstrip(), *rest]


def _bar(start_ms: float, duration_ms: float, end_ms: float) -> str:
    block, edge, empty = _bar_characters()
    start = min(BAR_CHARS - 1, int(start_ms / end_ms * BAR_CHARS))
    length = round(duration_ms / end_ms * BAR_CHARS)
    bar = block * length if length else edge
    return (empty * start + bar)[:BAR_CHARS].ljust(BAR_CHARS, empty)


def _bar_characters() -> tuple[str, str, str]:
    try:
        "█▏·".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return "#", "|", "."
    return "█", "▏", "·"


def _milliseconds(value: float) -> str:
    return f"{value:.0f} ms" if value >= 10 else f"{value:.1f} ms"
