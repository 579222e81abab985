from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import quick
from tests.ledger.builders import MODEL, decode, prefill, step, window

from underlay.domain.figures import Figure
from underlay.ledger.attribution import attribute
from underlay.ledger.node import DEVICES_ONLY, NODE_ACCOUNTS, Host, node_accounts


def figure(value: float, unit: str = "J", off: float | None = 1.0, meter: str = "rapl") -> Figure:
    return Figure(value, unit, "measured", meter, "", off)


def host(value: float = 60.0, *, watts: float = 20.0, share: float = 0.5) -> Host:
    return Host(figure(value), figure(watts, "W"), share)


def devices(count: int = 2, value: float = 200.0):
    return [
        attribute(
            window(value * (n + 1)),
            [step(decode("a"), prefill("b", 30), end_s=0.7), step(decode(f"d{n}"), begin_s=0.7)],
            MODEL,
        )
        for n in range(count)
    ]


PUE = Figure(1.2, "ratio", "modelled", "", "", 0.05)


@given(
    st.integers(1, 4), st.floats(0, 1e6, allow_subnormal=False), st.floats(0, 1e4), st.floats(0, 1),
    st.one_of(st.none(), st.floats(0, 1e7, allow_subnormal=False)), st.one_of(st.none(), st.floats(1, 3)), st.booleans(),
)  # fmt: skip
@quick
def test_node_and_facility_close_whatever_is_metered(count, value, watts, share, node, pue, has_host) -> None:
    whole = node_accounts(
        devices(count, value),
        host(value / 3, watts=watts, share=share) if has_host else None,
        node_meter=None if node is None else figure(node, meter="redfish"),
        pue=None if pue is None else Figure(pue, "ratio", "modelled"),
    )
    whole.check()
    sums = whole.totals()
    above = sums.pop("overhead", 0.0)
    size = sum(map(abs, sums.values()))
    assert sum(sums.values()) == pytest.approx(whole.it.value, abs=1e-9 * size)
    if pue is not None:
        assert whole.it.value + above == pytest.approx(whole.it.value * pue, abs=1e-9 * size * pue)
    else:
        assert whole.facility is None


def test_a_dropped_account_turns_the_check_red() -> None:
    whole = node_accounts(devices(), host(), node_meter=figure(700.0, meter="redfish"), pue=PUE)
    whole.check()
    assert {entry.account for entry in whole.entries} == set(NODE_ACCOUNTS)
    for name in NODE_ACCOUNTS:
        left = tuple(entry for entry in whole.entries if entry.account != name)
        for made in (whole.entries_made, len(left)):
            with pytest.raises(AssertionError):
                msgspec.structs.replace(whole, entries=left, entries_made=made).check()
    with pytest.raises(AssertionError):
        msgspec.structs.replace(whole, devices=whole.devices[:1]).check()


def test_the_host_goes_by_tokens_above_idle_in_the_servers_part() -> None:
    whole = node_accounts(devices(1), host(60.0, watts=20.0, share=0.5))
    parts = {entry.request: entry.joules for entry in whole.entries if entry.account == "host"}
    assert sum(parts.values()) == pytest.approx((60 - 20) * 0.5)
    assert parts["b"] == pytest.approx(30 * parts["a"])
    assert whole.totals()["host_shared"] == pytest.approx(40.0)
    idle = node_accounts([attribute(window(50.0), [], MODEL)], host(60.0))
    assert idle.totals()["host_shared"] == 60.0


def test_without_a_meter_of_the_host_the_node_ends_at_its_devices() -> None:
    whole = node_accounts(devices(2))
    assert whole.it.boundary == DEVICES_ONLY
    assert "host" not in whole.totals()
    rest = node_accounts(devices(2), node_meter=figure(1000.0, meter="redfish"))
    assert rest.totals()["host_shared"] == pytest.approx(400.0)
    assert rest.totals()["residual"] == 0.0
    less = node_accounts(devices(2), node_meter=figure(500.0, meter="redfish"))
    assert (less.totals()["host_shared"], less.totals()["residual"]) == (0.0, -100.0)


def test_overhead_is_pue_less_one_of_each_request_and_as_little_known_as_it() -> None:
    whole = node_accounts(devices(1), host(), pue=PUE)
    mine = [entry for entry in (*whole.devices[0].entries, *whole.entries) if entry.request == "a"]
    over = next(entry for entry in mine if entry.account == "overhead")
    assert over.joules == pytest.approx(0.2 * sum(entry.joules for entry in mine if entry is not over))
    assert over.method == "modelled"
    assert over.reading_j > 0.05 * over.joules / 0.2
    assert whole.facility == whole.it.by(PUE, unit="J", boundary=whole.facility.boundary)


def test_what_is_no_node_is_refused() -> None:
    with pytest.raises(ValueError, match="same windows"):
        node_accounts([*devices(1), attribute(window(1.0, 1.0, 2.0), [], MODEL)])
    with pytest.raises(ValueError, match="PUE"):
        node_accounts(devices(1), pue=Figure(0.9, "ratio", "assumed"))
    with pytest.raises(ValueError, match="share"):
        host(share=1.5)
