"""Accounts in the settings file: what the desk makes of them, and every mistake with its place."""

from decimal import Decimal

import pytest

from underlay.domain.keys import Budget, Limits
from underlay.domain.money import OwnPrice
from underlay.domain.policy import Account
from underlay.live import settings_file
from underlay.live.accounts import accounts

GOOD = """
accounts:
  - tenant: acme
    weight: 2
    band: priority
    limits: {requests_per_minute: 600}
    budgets: [{usd: 50, per: month}, {usd: "0.000000000001", tokens: 2000000, per: day}]
    prices: [{model: gemma-3-270m, cached_usd_per_mtok: 0}]
  - user: ann
    budgets: [{tokens: 5, per: total}, {joules: 1.5 kWh, per: week}, {joules: 500, per: day}]
  - model: gemma-3-270m
    limits: {concurrent: 8}
"""


@pytest.fixture
def load(tmp_path):
    def loading(text):
        path = tmp_path / "underlay.yaml"
        path.write_text(text)
        return settings_file.load(path, {}, {}).settings

    return loading


def test_accounts_become_the_desks(load):
    assert accounts(load(GOOD)) == (
        Account(
            "tenant",
            "acme",
            Limits(requests_per_minute=600),
            (Budget("month", 50 * 10**12), Budget("day", 1, 2_000_000)),
            2.0,
            "priority",
            (OwnPrice("gemma-3-270m", cached_usd_per_mtok=Decimal(0)),),
        ),
        Account(
            "user",
            "ann",
            budgets=(Budget("total", None, 5), Budget("week", joules=5.4e6), Budget("day", joules=500.0)),
        ),
        Account("model", "gemma-3-270m", Limits(concurrent=8)),
    )
    assert accounts(load("")) == ()


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ("- weight: 2", ":2:5: accounts.0: name one tenant, user or model, not none"),
        ("- {tenant: a, user: b}", ":2:5: accounts.0: name one tenant, user or model, not a tenant and a user"),
        ("- tenant: ''", ":2:13: accounts.0.tenant: must not be empty"),
        ("- tenant: a\n  - tenant: a", ":3:13: accounts.1.tenant: tenant a stands in accounts.0 already"),
        (
            "- model: gema-3-270m",
            "accounts.0.model: no model is called 'gema-3-270m'; did you mean 'gemma-3-270m'?",
        ),
        ("- {user: a, band: low}", "no band is called 'low'; there is: priority, standard, batch"),
        (
            "- {user: a, prices: [{model: gemma-3-270m}]}",
            "accounts.0.prices: only tenants have prices of their own",
        ),
        ("- {tenant: a, prices: [{model: gema}]}", "accounts.0.prices.0.model: no model is called 'gema'"),
        ("- {user: a, weight: 2}", ":2:23: accounts.0.weight: only tenants are weighed"),
        ("- {model: gemma-3-270m, band: batch}", "accounts.0.band: a model has no band"),
        ("- {user: a, budgets: [{per: day}]}", "accounts.0.budgets.0: say usd, tokens, joules or several of them"),
        ("- {user: a, budgets: [{usd: 0, per: day}]}", "accounts.0.budgets.0.usd: must be more than 0, not 0"),
        (
            "- {user: a, budgets: [{joules: 5 eur, per: day}]}",
            "accounts.0.budgets.0.joules: '5 eur' is no amount of energy such as 500 J, 5kJ, 2MJ or 1kWh",
        ),
        ("- {user: a, budgets: [{joules: 5mJ, per: day}]}", "'5mJ' is in thousandths; write M for mega: 5MJ"),
        (
            "- {user: a, budgets: [{joules: 0, per: day}]}",
            "accounts.0.budgets.0.joules: must be more than 0.0, not 0",
        ),
        ("- {user: a, budgets: [{usd: 5}]}", "accounts.0.budgets.0.per: is missing"),
        ("- {user: a, budgets: [{usd: 1e8, per: day}]}", "accounts.0.budgets.0.usd: must be 9000000 or less"),
        (
            "- {user: a, budgets: [{usd: 5, per: year}]}",
            "must be 'day', 'week', 'month' or 'total', not the text 'year'",
        ),
        ("- {user: a, budgets: [{usd: '0.0000000000001', per: day}]}", "must have at most 12 decimals"),
        ("- {user: a, budget: 5}", "accounts.0.budget: unknown key; did you mean 'budgets'?"),
    ],
)
def test_every_mistake_is_told_with_its_place(load, entries, says):
    with pytest.raises(settings_file.SettingsError) as wrong:
        load(f"accounts:\n  {entries}\n")
    assert says in str(wrong.value)
