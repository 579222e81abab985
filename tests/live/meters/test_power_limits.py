"""Limits on what devices draw: set within their bounds, given back at the end and after a crash, or refused."""

from __future__ import annotations

import sys
from math import inf

import msgspec
import pytest
from tests.support.meters import Device, FakeNvml, NvmlError

from underlay.live.meters import power_limits


def set_of(fake: FakeNvml) -> list[int | None]:
    return [device.limit_mw for device in fake.devices]


def test_a_limit_holds_for_every_device_and_is_given_back(tmp_path) -> None:
    fake = FakeNvml(Device(), Device())
    fake.devices[1].limit_mw = 600_000  # by somebody else, for a reason
    limits = power_limits.offer(tmp_path, fake).limits
    assert (limits.count, limits.rated_w, limits.least_w) == (2, 600.0, 200.0)
    limits.hold_to(420.0)
    assert set_of(fake) == [420_000, 420_000]
    limits.hold_to(50.0)
    assert set_of(fake) == [200_000, 200_000]
    limits.hold_to(inf)
    assert set_of(fake) == [700_000, 600_000]
    limits.hold_to(300.0)
    limits.close()
    assert set_of(fake) == [700_000, 600_000]
    assert not power_limits.was_cut_off(tmp_path)
    assert fake.begun == 0


def test_what_a_killed_run_left_is_given_back_by_the_next(tmp_path) -> None:
    fake = FakeNvml(Device())
    power_limits.offer(tmp_path, fake).limits.hold_to(350.0)  # and then it is killed
    assert power_limits.was_cut_off(tmp_path)
    found = power_limits.offer(tmp_path, fake)
    assert set_of(fake) == [700_000]
    assert found.limits.rated_w == 700.0
    assert not power_limits.was_cut_off(tmp_path)


def test_a_file_that_says_nothing_is_no_reason_to_fail(tmp_path) -> None:
    (tmp_path / power_limits.FILE).write_bytes(b"half of")
    assert power_limits.offer(tmp_path, FakeNvml(Device())).limits.rated_w == 700.0


def test_who_may_not_set_limits_is_told_what_to_do_and_nothing_is_changed(tmp_path) -> None:
    fake = FakeNvml(Device())
    fake.permits = False
    found = power_limits.offer(tmp_path, fake)
    assert found.limits is None
    assert "Insufficient Permissions" in found.why
    assert "as root" in found.fix
    assert (set_of(fake), fake.begun) == ([700_000], 0)


def test_after_a_refusal_what_a_killed_run_left_is_still_known(tmp_path) -> None:
    fake = FakeNvml(Device())
    power_limits.offer(tmp_path, fake).limits.hold_to(350.0)
    fake.permits = False
    assert power_limits.offer(tmp_path, fake).limits is None
    assert msgspec.json.decode((tmp_path / power_limits.FILE).read_bytes()) == {"GPU-0": 700_000}


def test_a_device_that_is_lost_keeps_what_was_before_for_the_next_run(tmp_path) -> None:
    fake = FakeNvml(Device())
    limits = power_limits.offer(tmp_path, fake).limits
    limits.hold_to(350.0)
    fake.devices[0].lost = True
    with pytest.raises(NvmlError):
        limits.hold_to(400.0)
    limits.close()
    assert power_limits.was_cut_off(tmp_path)


def test_doctor_tries_without_changing_or_giving_back_anything(tmp_path) -> None:
    fake = FakeNvml(Device())
    assert power_limits.tried(tmp_path, fake).why == "1 accelerator, from 200 to 700 W"
    power_limits.offer(tmp_path, fake).limits.hold_to(350.0)
    found = power_limits.tried(tmp_path, fake)
    assert "killed run left" in found.why
    assert (set_of(fake), power_limits.was_cut_off(tmp_path), found.fix) == ([350_000], True, "")


def test_without_devices_driver_or_library_it_says_which(tmp_path, monkeypatch) -> None:
    assert "no accelerator" in power_limits.offer(tmp_path, FakeNvml()).why
    assert "no NVIDIA driver here" in power_limits.offer(tmp_path, FakeNvml(error="not found")).why
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert "not installed" in power_limits.offer(tmp_path).why


def test_a_plan_that_comes_after_the_end_sets_nothing(tmp_path) -> None:
    fake = FakeNvml(Device())
    limits = power_limits.offer(tmp_path, fake).limits
    limits.hold_to(300.0)
    limits.close()
    limits.hold_to(250.0)  # a thread was on its way
    assert set_of(fake) == [700_000]
    assert not power_limits.was_cut_off(tmp_path)
