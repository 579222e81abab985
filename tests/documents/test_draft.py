"""A document of one's own: values, their places, and findings in kinds of sections and sections by name."""

import json
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

from underlay.documents import shapes
from underlay.documents.draft import Draft
from underlay.documents.findings import Mistake, Source, in_order
from underlay.documents.sections import Section


class Round(Section):
    kind: Literal["round"] = "round"
    radius: float


class Square(Section):
    kind: Literal["square"] = "square"
    side: float
    file: Path | None = None


class Drawing(Section):
    name: str = ""
    shapes: tuple[Annotated[Round | Square, Field(discriminator="kind")], ...] = ()
    named: dict[str, Square] = Field(default_factory=dict)


@pytest.fixture
def drafted(tmp_path):
    def read(text):
        path = tmp_path / "d.yaml"
        path.write_text(text)
        draft = Draft(Drawing, "a drawing")
        draft.read_file(path)
        return draft

    return read


def told(draft):
    drawn = draft.validated()
    assert drawn is None
    return [(found.row, found.column, found.setting, found.message) for found in in_order(draft.findings)]


def test_a_section_of_several_kinds_is_judged_by_its_own(drafted):
    draft = drafted("shapes:\n  - {kind: square, sid: 3}\n  - {kind: oval}\n  - {kind: round}\n")
    assert told(draft) == [
        (2, 4, "shapes.0.side", "is missing"),
        (2, 19, "shapes.0.sid", "unknown key; did you mean 'side'?"),
        (3, 4, "shapes.1", "kind must be 'round', 'square', not the text 'oval'"),
        (4, 4, "shapes.2.radius", "is missing"),
    ]


def test_a_section_by_name_is_found_again(drafted):
    assert told(drafted("named:\n  a: {kind: square, side: x}\n")) == [
        (2, 26, "named.a.side", "expected a number, not the text 'x'")
    ]


def test_paths_are_meant_from_where_the_file_lies(drafted, tmp_path):
    draft = drafted("named: {a: {side: 1, file: b.csv}}\nshapes:\n  - {kind: square, side: 2, file: ../c}\n")
    drawn = draft.validated()
    assert drawn.named["a"].file == tmp_path / "b.csv"
    assert drawn.shapes[0].file == tmp_path / "../c"


def test_what_is_put_in_wins_and_is_named(drafted):
    draft = drafted("named: {a: {side: 1}}\n")
    draft.put_text(("named", "a", "side"), "2.5", Source("--set"))
    draft.put_text(("name",), "12", Source("--set"))
    assert draft.validated() == Drawing(name="12", named={"a": Square(side=2.5)})
    draft.put(("named", "a", "side"), "far", Source("--set"))
    assert draft.validated() is None
    assert draft.findings[0].render() == "--set: named.a.side: expected a number, not the text 'far'"


def test_a_mistake_between_values_is_shown_at_the_nearest_thing_written(drafted):
    draft = drafted("named:\n  a: {side: 1}\n")
    assert draft.finding(Mistake(("named", "a", "file", "x"), "is odd")).row == 2
    assert draft.finding(Mistake(("name",), "is odd")).where == ""


def test_what_cannot_be_read_leaves_nothing(tmp_path):
    draft = Draft(Drawing, "a drawing")
    draft.read_file(tmp_path / "none.yaml")
    assert [found.message for found in draft.findings] == ["cannot be read: No such file or directory"]
    assert draft.tree == {}


def test_shapes_tell_what_may_stand_where():
    assert shapes.keys(Drawing, ("shapes", 3), "round") == ["kind", "radius"]
    assert shapes.keys(Drawing, ("shapes", 3)) == ["kind", "radius", "side", "file"]
    assert shapes.is_path(Drawing, ("named", "any", "file"))
    assert not shapes.kinds(Drawing, ("named", 3))
    assert shapes.is_section(Drawing, ("named",))
    assert json.dumps(Drawing.model_json_schema())
