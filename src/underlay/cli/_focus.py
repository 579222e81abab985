"""The ledger as FOCUS 1.2 (FinOps Open Cost and Usage Specification), for tools that read many providers' bills.

A row for each day, tenant, model and region, all UTC; ``BilledCost`` adds up to what was charged, exactly. What the
meters counted that is nobody's has rows too, which cost nothing and have no sub account, so ``x_EnergyJoules`` adds
up to the meters. All columns that the specification calls mandatory are there, and of the others those for which
we have values; what has no value is null, an empty cell. Unit prices and SKUs are not told: a row adds up tokens
of three prices.

Column names, their order (FOCUS columns by name, then custom ones, which begin with ``x_``), allowed values, null
and number formats: https://focus.finops.org, version 1.2.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from typing import Any

import msgspec

from underlay.cli._ledger_tables import Line, csv_text

#: The spec's name for each column of the ledger that it has none for.
_CUSTOM = {
    "account": "x_Account", "energy_joules": "x_EnergyJoules", "energy_method": "x_EnergyMethod",
    "uncertainty_joules": "x_EnergyUncertaintyJoules", "overhead_joules": "x_OverheadJoules",
    "network_joules": "x_NetworkJoules", "idle_beside_joules": "x_IdleBesideJoules",
    "carbon_location_g": "x_CarbonLocationGrams", "carbon_market_g": "x_CarbonMarketGrams",
    "carbon_marginal_g": "x_CarbonMarginalGrams", "embodied_g": "x_CarbonEmbodiedGrams",
    "water_on_site_ml": "x_WaterOnSiteMillilitres", "water_off_site_ml": "x_WaterOffSiteMillilitres",
    "own_cost_usd": "x_OwnCost", "own_cost_lacks": "x_OwnCostLacks", "requests": "x_Requests",
    "unmetered_requests": "x_UnmeteredRequests", "prompt_tokens": "x_PromptTokens",
    "cached_tokens": "x_CachedTokens", "completion_tokens": "x_CompletionTokens",
}  # fmt: skip
_SELF = "Underlay"
_ALWAYS: dict[str, Any] = {
    "BillingAccountId": "underlay", "BillingAccountName": "Underlay platform", "BillingCurrency": "USD",
    "ChargeCategory": "Usage", "ChargeClass": None, "ChargeFrequency": "Usage-Based", "InvoiceIssuerName": _SELF,
    "ProviderName": _SELF, "PublisherName": _SELF, "ServiceCategory": "AI and Machine Learning",
    "ServiceName": "Underlay inference", "ServiceSubcategory": "Generative AI",
}  # fmt: skip
_OF_A_ROW = (
    "BilledCost", "BillingPeriodEnd", "BillingPeriodStart", "ChargeDescription", "ChargePeriodEnd",
    "ChargePeriodStart", "ConsumedQuantity", "ConsumedUnit", "ContractedCost", "EffectiveCost", "ListCost",
    "PricingQuantity", "PricingUnit", "RegionId", "RegionName", "ResourceId", "ResourceName", "ResourceType",
    "SubAccountId", "SubAccountName", "Tags",
)  # fmt: skip
COLUMNS = (*sorted((*_ALWAYS, *_OF_A_ROW)), *_CUSTOM.values())


def focus_csv(lines: Iterable[Line]) -> str:
    """The file, from lines by ``cell``."""
    rows = [_row(line) for line in lines]
    return csv_text(COLUMNS, ([row.get(name) for name in COLUMNS] for row in rows))


def _row(line: Line) -> dict[str, Any]:
    day, tenant, model, region = msgspec.json.decode(line.group, type=tuple[str, str, str, str])
    whose = _nobodys(line) if "account" in line.cells else _charged(line, tenant, model)
    custom = {custom: line.cells.get(name) for name, custom in _CUSTOM.items()}
    custom["x_OwnCostLacks"] = custom["x_OwnCostLacks"] or None
    return {**_ALWAYS, **_period(date.fromisoformat(day)), **whose,
            "RegionId": region or None, "RegionName": region or None, **custom}  # fmt: skip


def _charged(line: Line, tenant: str, model: str) -> dict[str, Any]:
    cost = line.cells["cost_usd"]
    tokens = line.cells["prompt_tokens"] + line.cells["completion_tokens"]
    return {
        **dict.fromkeys(("BilledCost", "ContractedCost", "EffectiveCost", "ListCost"), cost),
        "ChargeDescription": f"{model}: {line.cells['requests']} requests, {tokens} tokens",
        **_quantity(tokens, "Tokens"),
        "ResourceId": model,
        "ResourceName": model,
        "ResourceType": "Model",
        "SubAccountId": tenant,
        "SubAccountName": tenant,
        "Tags": msgspec.json.encode({"tenant": tenant, "model": model}).decode(),
    }


def _nobodys(line: Line) -> dict[str, Any]:
    account = line.cells["account"]
    return {
        **dict.fromkeys(("BilledCost", "ContractedCost", "EffectiveCost", "ListCost"), "0"),
        "ChargeDescription": f"energy of no request: {account}",
        **_quantity(line.cells["energy_joules"], "Joules"),
    }


def _quantity(quantity: Any, unit: str) -> dict[str, Any]:
    return {"ConsumedQuantity": quantity, "ConsumedUnit": unit, "PricingQuantity": quantity, "PricingUnit": unit}


def _period(day: date) -> dict[str, str]:
    month = day.replace(day=1)
    return {
        "BillingPeriodStart": _midnight(month),
        "BillingPeriodEnd": _midnight((month + timedelta(days=32)).replace(day=1)),
        "ChargePeriodStart": _midnight(day),
        "ChargePeriodEnd": _midnight(day + timedelta(days=1)),
    }


def _midnight(day: date) -> str:
    return f"{day.isoformat()}T00:00:00Z"
