"""What the desk is told of electricity, and what is missing for what it is to do."""

import json

import pytest

from underlay.live import grid_hours
from underlay.live.settings import Settings
from underlay.live.settings_file import SettingsError, load

HOURS = [100.0 + hour for hour in range(24)]


def settings(tmp_path, **sections):
    path = tmp_path / "underlay.yaml"
    path.write_text(json.dumps(sections))
    return load(str(path), {}, {}).settings


def test_nothing_is_told_where_nothing_is_put_off():
    assert grid_hours.seen(Settings(), 1.0) is None


def test_the_hours_of_the_site_are_told(tmp_path):
    known = settings(tmp_path, desk={"deferral": "both"}, site={"carbon_by_hour": HOURS, "usd_by_hour": HOURS})
    event = grid_hours.seen(known, 7.0)
    assert (event.at, event.carbon_g_kwh, event.usd_kwh) == (7.0, tuple(HOURS), tuple(HOURS))


@pytest.mark.parametrize(
    ("goal", "site", "missing"),
    [
        ("carbon", {"usd_by_hour": HOURS}, ["site.carbon_by_hour"]),
        ("price", {}, ["site.usd_by_hour"]),
        ("both", {}, ["site.carbon_by_hour", "site.usd_by_hour"]),
    ],
)
def test_without_its_hours_a_goal_is_a_mistake(tmp_path, goal, site, missing):
    with pytest.raises(SettingsError) as refused:
        settings(tmp_path, desk={"deferral": goal}, site=site)
    assert [
        name for name in ("site.carbon_by_hour", "site.usd_by_hour") if name in refused.value.render()
    ] == missing
