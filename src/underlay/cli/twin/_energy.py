"""A journal's joules in the twin beside those settled live, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from underlay.cli import _says
from underlay.cli._says import INVALID, Failure

#: The store keeps what is nobody's by the hour.
HOUR_S = 3600.0

if TYPE_CHECKING:
    from underlay.twin.recorded.energy_report import EnergyReport


def compared(path: Path, profiles: Sequence[str]) -> EnergyReport:
    """Run a journal again and compare. Raises ``Failure``."""
    from underlay.documents.findings import DocumentError
    from underlay.domain.errors import BadRequest, NotFound
    from underlay.twin.recorded.energy import compare
    from underlay.twin.recorded.what_if import Question

    _says.progress(f"running {path} again, for its joules")
    try:
        return compare(Question(path, tuple(profile(text) for text in profiles)))
    except (BadRequest, NotFound) as error:
        raise Failure("no_energy", error.message, "docs/how-to/what-if.md") from None
    except DocumentError as error:
        raise Failure("setting_invalid", str(error), "docs/how-to/what-if.md", exit_code=INVALID) from None


def profile(text: str) -> tuple[str, str]:
    """``[MODEL=]PROFILE`` as typed; the model is empty if it is for all."""
    model, given, named = text.partition("=")
    return (model, named) if given and not Path(text).exists() else ("", text)


def fields(report: EnergyReport) -> dict[str, Any]:
    """Everything, for programs."""
    import msgspec

    told: dict[str, Any] = msgspec.to_builtins(report)
    told["nobodys_joules"] = nobodys(report)
    for row, account in zip(told["accounts"], report.accounts, strict=True):
        row["off"] = account.share
    for row, request in zip(told["requests"], report.requests, strict=True):
        row["off"] = request.off
    return told


def told(report: EnergyReport) -> str:
    """The tables, for people."""
    accounts = [
        [
            each.account,
            f"{each.live_joules:,.2f} J",
            "not modelled" if each.twin_joules is None else f"{each.twin_joules:,.2f} J",
            "" if each.share is None else f"{each.share:+.1%}",
        ]
        for each in report.accounts
    ]
    steps = [
        [
            each.model,
            f"{each.step_j:.3g} J",
            f"{each.token_j:.3g} J",
            f"{each.pflop_j:.3g} J",
            f"{each.kv_gb_j:.3g} J",
            f"{each.method}: {each.source}",
        ]
        for each in report.coefficients
    ]
    heads = ["model", "a step", "a token", "a PFLOP of prompts", "a GB of KV", ""]
    return "\n".join(
        [
            "",
            f"{report.path}: {report.compared} requests compared, each by coefficients that have not seen it",
            "",
            _says.table(["account", "live", "by the twin", "off"], accounts),
            "",
            _says.table(heads, steps),
            "",
            *_nobodys(report),
            f"a request is off by {report.median_off:.1%} at the median, {report.p90_off:.1%} for nine in ten",
            *_notes(report),
        ]
    )


def nobodys(report: EnergyReport) -> dict[str, float] | None:
    """What was nobody's live in the hours of a journal, by the store beside it; None where there is none."""
    from underlay.live import locate
    from underlay.live.store import Store, store_path

    folder = Path(report.path).absolute().parent.parent
    if Path(report.path).absolute().parent.name != "journal" or not store_path(folder).exists():
        return None
    since_s = report.begin_s // HOUR_S * HOUR_S
    with Store(folder) as store:
        running = locate.find(folder) is not None
        found = store.energy_ledger("tenant", since_s=since_s, until_s=report.end_s, running=running)
    return {each.account: each.microjoules / 1e6 for each in found.nobodys}


def _nobodys(report: EnergyReport) -> list[str]:
    """The same for people; idle power is all of it that a profile can model."""
    live = nobodys(report)
    if not live:
        return []
    twin = {"idle_provisioned": report.idle_joules}
    rows = [
        [account, f"{joules:,.2f} J", "not modelled" if (own := twin.get(account)) is None else f"{own:,.2f} J"]
        for account, joules in live.items()
    ]
    return [_says.table(["nobody's, in these hours", "live", "by the twin"], rows), ""]


def _notes(report: EnergyReport) -> list[str]:
    notes = []
    if report.unsettled:
        notes.append(f"without joules in the journal (over too late, or unmetered): {report.unsettled}")
    if report.unmatched:
        notes.append(f"settled, but nothing was computed for them in the twin or live: {report.unmatched}")
    return [*notes, *(f"warning: {warning}" for warning in report.warnings)]
