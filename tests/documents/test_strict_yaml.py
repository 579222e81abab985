"""Only true, false, null and decimal numbers are other than text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.control.builders import quick

from underlay.documents.findings import DocumentError
from underlay.documents.strict_yaml import FILE_BYTES_MAX, Text, composed, text_of, value_of


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("12", 12),
        ("-1.5e3", -1500.0),
        ("~", None),
        ("", None),
        ("no", "no"),
        ("08", "08"),
        ("12:30", "12:30"),
        ("10 min", "10 min"),
        ("{a: [1, b]}", {"a": [1, "b"]}),
        ("{", "{"),
        (".inf", ".inf"),
    ],
)
def test_values_are_what_a_person_means(text, value):
    assert value_of(text) == value


@quick
@given(st.text(max_size=60))
def test_no_text_breaks_the_reader(text):
    value_of(text)
    try:
        composed(Text("f.yaml", text))
    except DocumentError as error:
        assert error.render().startswith("f.yaml")


def test_a_file_too_long_is_not_read(tmp_path):
    path = tmp_path / "long.yaml"
    path.write_bytes(b" " * (FILE_BYTES_MAX + 1))
    with pytest.raises(DocumentError, match=r"long\.yaml: longer than 1000000 bytes"):
        text_of(path)
