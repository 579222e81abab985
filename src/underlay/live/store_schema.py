"""The store's tables, version by version: a new file runs through all of them, an old one through the rest.

A step is never edited once it was released, only followed by another. What a step adds to tables that are there
has a default, so that everything written before keeps its meaning.
"""

from __future__ import annotations

import sqlite3

#: Costs are added in two halves, because SQLite refuses sums beyond 64 bits (9.2 million dollars).
HALF = 1_000_000_000
#: Microjoules in a joule.
MICRO = 1_000_000

_FIRST = (
    """
    CREATE TABLE keys (
        id TEXT PRIMARY KEY,
        digest TEXT NOT NULL UNIQUE,
        tenant TEXT NOT NULL,
        name TEXT NOT NULL,
        prefix TEXT NOT NULL,
        models TEXT NOT NULL,
        limits TEXT NOT NULL,
        created_s REAL NOT NULL,
        expires_s REAL,
        revoked_s REAL,
        replaced_by TEXT REFERENCES keys (id),
        change INTEGER NOT NULL
    )
    """,
    "CREATE INDEX keys_by_change ON keys (change)",
    """
    CREATE TABLE charges (
        request_id TEXT PRIMARY KEY,
        at_s REAL NOT NULL,
        tenant TEXT NOT NULL,
        key_id TEXT NOT NULL,
        model TEXT NOT NULL,
        outcome TEXT NOT NULL,
        prompt_tokens INTEGER NOT NULL,
        cached_tokens INTEGER NOT NULL,
        completion_tokens INTEGER NOT NULL,
        cost_pico_usd INTEGER NOT NULL
    )
    """,
    "CREATE INDEX charges_by_time ON charges (at_s)",
    """
    CREATE TABLE journeys (
        arrival INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        at_s REAL NOT NULL,
        body BLOB NOT NULL
    )
    """,
    "CREATE INDEX journeys_by_time ON journeys (at_s)",
    """
    CREATE TABLE journal_marks (
        segment TEXT PRIMARY KEY,
        settled_bytes INTEGER NOT NULL
    )
    """,
    "CREATE TABLE schema_version (version INTEGER NOT NULL)",
    "INSERT INTO schema_version VALUES (1)",
)

# Budgets. What was spent is kept by UTC day, of which every period is made, so that a start need not add up a
# year of charges; a trigger keeps it, because only the row that is really inserted may count. What failed costs
# nothing, in tokens as in money.
_BUDGETS = (
    "ALTER TABLE keys ADD COLUMN user TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE keys ADD COLUMN band TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE keys ADD COLUMN budgets TEXT NOT NULL DEFAULT '[]'",
    """
    CREATE TABLE spent_by_day (
        day INTEGER NOT NULL,
        key_id TEXT NOT NULL,
        tenant TEXT NOT NULL,
        model TEXT NOT NULL,
        tokens INTEGER NOT NULL,
        cost_high INTEGER NOT NULL,
        cost_low INTEGER NOT NULL,
        PRIMARY KEY (day, key_id, tenant, model)
    ) WITHOUT ROWID
    """,
    """
    CREATE TRIGGER charge_is_spent AFTER INSERT ON charges WHEN NEW.outcome <> 'failed' BEGIN
        INSERT INTO spent_by_day VALUES (
            CAST(NEW.at_s / 86400 AS INTEGER), NEW.key_id, NEW.tenant, NEW.model,
            NEW.prompt_tokens + NEW.completion_tokens,
            NEW.cost_pico_usd / 1000000000, NEW.cost_pico_usd % 1000000000
        )
        ON CONFLICT (day, key_id, tenant, model) DO UPDATE SET tokens = tokens + excluded.tokens,
            cost_high = cost_high + excluded.cost_high, cost_low = cost_low + excluded.cost_low;
    END
    """,
    """
    INSERT INTO spent_by_day
        SELECT CAST(at_s / 86400 AS INTEGER) AS day, key_id, tenant, model, sum(prompt_tokens + completion_tokens),
            sum(cost_pico_usd / 1000000000), sum(cost_pico_usd % 1000000000)
        FROM charges WHERE outcome <> 'failed' GROUP BY day, key_id, tenant, model
    """,
    "UPDATE schema_version SET version = 2",
)

# Energy. Joules are whole microjoules, so that sums are exact in any order; grams, millilitres and what is told
# beside them are not added up to anything and stay floats. NULL is unknown, never 0. A trigger keeps what budgets
# in joules spent, as it does for money, with what failed: a failed attempt takes joules too.
_ENERGY = (
    """
    CREATE TABLE request_energy (
        request_id TEXT PRIMARY KEY,
        at_s REAL NOT NULL,
        tenant TEXT NOT NULL,
        key_id TEXT NOT NULL,
        model TEXT NOT NULL,
        region TEXT NOT NULL,
        outcome TEXT NOT NULL,
        microjoules INTEGER,
        uncertainty_joules REAL,
        method TEXT NOT NULL,
        meter TEXT NOT NULL,
        accounts TEXT NOT NULL,
        unmetered_s REAL NOT NULL,
        overhead_joules REAL,
        network_joules REAL,
        idle_beside_joules REAL,
        carbon_location_g REAL,
        carbon_market_g REAL,
        carbon_marginal_g REAL,
        embodied_g REAL,
        water_on_site_ml REAL,
        water_off_site_ml REAL,
        accelerator_pico_usd INTEGER,
        electricity_pico_usd INTEGER,
        overhead_pico_usd INTEGER
    )
    """,
    "CREATE INDEX request_energy_by_time ON request_energy (at_s)",
    """
    CREATE TABLE metered_energy (
        hour INTEGER NOT NULL,
        region TEXT NOT NULL,
        meter TEXT NOT NULL,
        method TEXT NOT NULL,
        account TEXT NOT NULL,
        microjoules INTEGER NOT NULL,
        PRIMARY KEY (hour, region, meter, method, account)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE joules_by_day (
        day INTEGER NOT NULL,
        key_id TEXT NOT NULL,
        tenant TEXT NOT NULL,
        model TEXT NOT NULL,
        microjoules INTEGER NOT NULL,
        PRIMARY KEY (day, key_id, tenant, model)
    ) WITHOUT ROWID
    """,
    """
    CREATE TRIGGER energy_is_spent AFTER INSERT ON request_energy WHEN NEW.microjoules IS NOT NULL BEGIN
        INSERT INTO joules_by_day VALUES (
            CAST(NEW.at_s / 86400 AS INTEGER), NEW.key_id, NEW.tenant, NEW.model, NEW.microjoules
        )
        ON CONFLICT (day, key_id, tenant, model) DO UPDATE SET microjoules = microjoules + excluded.microjoules;
    END
    """,
    "UPDATE schema_version SET version = 3",
)

_STEPS = (_FIRST, _BUDGETS, _ENERGY)
SCHEMA_VERSION = len(_STEPS)


class StoreTooNew(Exception):
    """The file was written by a later version, which may mean other things by the same columns."""


def migrate(connection: sqlite3.Connection) -> None:
    """Bring a file up to date, all or nothing. Raises ``StoreTooNew``."""
    version = _version(connection)
    if version > SCHEMA_VERSION:
        raise StoreTooNew(f"the store has schema {version}; this version knows {SCHEMA_VERSION}")
    if version == SCHEMA_VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for step in _STEPS[_version(connection) :]:  # another process may have done it while this waited to begin
            for statement in step:
                connection.execute(statement)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _version(connection: sqlite3.Connection) -> int:
    there = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'schema_version'").fetchone()
    return int(connection.execute("SELECT version FROM schema_version").fetchone()[0]) if there else 0
