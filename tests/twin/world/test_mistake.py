from __future__ import annotations

from underlay.twin.world.mistake import ScenarioMistake


def test_a_mistake_says_where_it_is():
    mistake = ScenarioMistake(("world", "regions", 0, "name"), "It has none.")
    assert (mistake.steps, mistake.param) == (("world", "regions", 0, "name"), "world.regions.0.name")
    assert str(mistake) == "world.regions.0.name: It has none."
    assert str(ScenarioMistake((), "Nothing is there.")) == "Nothing is there."
