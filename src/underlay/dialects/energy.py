"""What do replies say of joules, and what does a caller read of a request once these are settled?

When a reply ends, the meters' last window is still open: it tells what is known by then, ``provisional``, and where
the rest can be read. Grams and millilitres are for that record, as they follow from joules; what a request cost us
is for neither: a caller is told the price.

Refused here: how joules are known.
"""

from __future__ import annotations

from typing import Any

import msgspec

from underlay.domain.answer import Opening, Receipt
from underlay.domain.views import EnergyRecord, Journey

#: Of replies that are sent whole: joules so far.
ENERGY_JOULES = "x-underlay-energy-joules"


def energy_fields(opening: Opening, receipt: Receipt) -> dict[str, Any]:
    """Write ``energy`` for a reply's usage: our addition, and none where the model is not metered."""
    energy = receipt.energy
    if energy is None:
        return {}
    return {
        "energy": {
            "joules": _rounded(energy.joules),
            "uncertainty_joules": _rounded(energy.uncertainty_joules),
            "method": energy.method or None,
            "boundary": energy.boundary or None,
            "status": energy.status,
            "receipt": opening.request_id,
            "record": record_path(opening.request_id),
        }
    }


def energy_headers(receipt: Receipt) -> tuple[tuple[str, str], ...]:
    """Say the joules of a whole reply in its head, if they are known."""
    joules = None if receipt.energy is None else _rounded(receipt.energy.joules)
    return () if joules is None else ((ENERGY_JOULES, str(joules)),)


def record_path(request_id: str) -> str:
    """Where the record of a request is read, below the base URL."""
    return f"/v1/requests/{request_id}/energy"


def record(journey: Journey) -> bytes | None:
    """Write what a caller may know of the energy of its own request; ``None`` while nothing is known."""
    energy = journey.energy
    if energy is None:
        return None
    return msgspec.json.encode(
        EnergyRecord(
            id=journey.id,
            created=int(journey.at_s),
            model=journey.model,
            price_usd=journey.money_usd,
            status=energy.status,
            joules=energy.joules,
            uncertainty_joules=energy.uncertainty_joules,
            method=energy.method or None,
            meter=energy.meter or None,
            boundary=energy.boundary or None,
            accounts=energy.accounts,
            unmetered_s=energy.unmetered_s,
            carbon=energy.carbon,
            water=energy.water,
            beside=energy.beside,
        )
    )


def _rounded(joules: float | None) -> float | None:
    """Six digits: no meter knows more, and replies are short."""
    return None if joules is None else float(f"{joules:.6g}")
