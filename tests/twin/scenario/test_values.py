"""Times and powers with their units, and names that become parts of paths."""

import pytest
from pydantic import BaseModel, ValidationError

from underlay.twin.scenario.values import ModelName, Moment, Name, Power, Span


class Values(BaseModel):
    span: Span = 1.0
    moment: Moment = 0.0
    power: Power = 1.0
    name: Name = "a"
    model: ModelName = "a"


@pytest.mark.parametrize(
    ("field", "written", "value"),
    [
        ("span", "500 ms", 0.5),
        ("span", "90s", 90.0),
        ("span", "1.5 h", 5400.0),
        ("span", "7 d", 604_800.0),
        ("span", 12, 12.0),
        ("moment", "0 s", 0.0),
        ("power", "20 MW", 20e6),
        ("power", "40 kW", 40e3),
        ("name", "hall-2", "hall-2"),
        ("model", "llama-3.1-8b", "llama-3.1-8b"),
    ],
)
def test_what_is_written_is_what_is_meant(field, written, value):
    assert getattr(Values(**{field: written}), field) == value


@pytest.mark.parametrize(
    ("field", "written", "said"),
    [
        ("span", "90", "expected a length of time such as 500 ms, 90 s, 10 min or 24 h, not the text '90'"),
        ("span", "10 minutes", "not the text '10 minutes'"),
        ("span", True, "not true"),
        ("span", "0 s", "greater than 0"),
        ("moment", -1, "greater than or equal to 0"),
        ("power", "20 mw", "expected a power such as 700 W, 40 kW or 20 MW, not the text '20 mw'"),
        ("name", "West 1", "expected small letters, digits and hyphens, as in west or hall-2"),
        ("name", "", "expected small letters"),
        ("model", "a/b", "expected letters, digits and the signs"),
    ],
)
def test_what_cannot_be_meant_is_refused(field, written, said):
    with pytest.raises(ValidationError, match=said):
        Values(**{field: written})
