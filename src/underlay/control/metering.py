"""What did it use, and what does that cost?

Decided from the engine's own counters, which arrive with events, and the model's price. Prompt tokens are
counted once however many attempts a request took; a request that failed costs its caller nothing; one whose
caller left costs what the engines produced. It refuses to know exchange rates and invoices.
"""

from __future__ import annotations

from underlay.domain.answer import Usage
from underlay.domain.keys import Key
from underlay.domain.money import Price

from .effects import Charge, Outcome


def charge(ticket: str, key: Key, model: str, price: Price, usage: Usage, outcome: Outcome) -> Charge:
    """Make the one charge of a ticket."""
    cost = 0 if outcome == "failed" else price.cost_pico_usd(usage)
    return Charge(
        ticket=ticket,
        key_id=key.id,
        tenant=key.tenant,
        model=model,
        usage=usage,
        cost_pico_usd=cost,
        outcome=outcome,
    )
