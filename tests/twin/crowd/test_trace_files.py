import gzip

import pytest

from underlay.domain.errors import BadRequest
from underlay.twin.crowd import trace_files
from underlay.twin.crowd.trace_formats import TraceError

OURS = "arrived_s,prompt_tokens,output_tokens\n"


def broken(path):
    with pytest.raises(TraceError) as caught:
        list(trace_files.read(path))
    return caught.value


def test_plain_and_gzipped_files_read_alike(tmp_path):
    text = (OURS + "".join(f"{n},{n + 1},{n + 2}\n" for n in range(50))).encode()
    (tmp_path / "plain").write_bytes(b"\xef\xbb\xbf" + text)
    (tmp_path / "zipped").write_bytes(gzip.compress(text))
    plain, zipped = (list(trace_files.read(tmp_path / name)) for name in ("plain", "zipped"))
    assert plain == zipped
    assert [row.at_s for row in plain] == list(range(50))


def test_the_shipped_ones_are_whole():
    found = {
        name: sum(1 for _ in trace_files.read(path))
        for name, path in trace_files.shipped().items()
        if name != "sharegpt"
    }
    assert found == {"azure-2023-code": 8819, "azure-2023-conv": 19_366, "mooncake-conversation": 12_031}
    assert len(trace_files.lengths(trace_files.locate("sharegpt"))) == 10_000


def test_a_trace_is_found_by_its_name_or_path(tmp_path):
    assert trace_files.locate("azure-2023-conv").name == "azure-2023-conv.csv.gz"
    path = tmp_path / "mine.csv"
    path.write_text(OURS)
    assert trace_files.locate(str(path)) == path
    with pytest.raises(BadRequest, match="did you mean 'azure-2023-conv'"):
        trace_files.locate("azure2023-conv")
    with pytest.raises(BadRequest, match="give a path, or one of azure-2023-code, "):
        trace_files.locate("/nowhere/at/all.csv")


def test_calls_out_of_order_are_an_error(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(OURS + "1,2,3\n5,2,3\n4,2,3\n")
    error = broken(path)
    assert (error.line, error.wrong) == (4, "comes before the line above it: sort the file by time.")


@pytest.mark.parametrize("text", [OURS, OURS + "\n\n"])
def test_a_trace_without_calls_is_an_error(tmp_path, text):
    path = tmp_path / "t.csv"
    path.write_text(text)
    assert broken(path).wrong == "there are no calls in it."
    with pytest.raises(TraceError, match="no calls"):
        trace_files.lengths(path)


def test_a_file_that_is_cut_off_damaged_or_no_text_is_an_error(tmp_path):
    path = tmp_path / "t.csv.gz"
    whole = gzip.compress((OURS + "".join(f"{n},{n * n + 1},3\n" for n in range(9000))).encode())
    path.write_bytes(whole[: len(whole) // 2])
    assert "cut off" in broken(path).wrong
    path.write_bytes(whole[:200] + b"\x00" * 50 + whole[250:])
    assert "damaged" in broken(path).wrong
    path.write_bytes(OURS.encode() + b"1,2,3\n2,\xff,3\n")
    assert "UTF-8" in broken(path).wrong
    assert "cannot be read" in broken(tmp_path).wrong
    with pytest.raises(TraceError, match="cannot be read"):
        trace_files.changed_ns(tmp_path / "none")
