import io
from pathlib import Path

import pytest

from underlay.domain.errors import BadRequest
from underlay.twin.crowd.trace_formats import Place, TraceError, csv_rows, json_rows

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
OURS = "arrived_s,prompt_tokens,output_tokens"


def rows(text, read=csv_rows, **more):
    return list(read(io.StringIO(text, newline=""), Place(Path("t.csv")), **more))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("2023-11-16 18:15:46.6805900", "2023-11-16 18:16:46.9805900"),
        ("2024-05-10 00:00:00.009930+00:00", "2024-05-10 00:01:00.309930+00:00"),
    ],
)
def test_azures_of_both_years_count_from_their_first_call(first, second):
    one, other = rows(f"{AZURE}{first},374,44\n{second},396,109\n")
    assert (one.at_s, one.prompt_tokens, one.output_tokens) == (0.0, 374, 44)
    assert other.at_s == pytest.approx(60.3)


def test_vidurs():
    assert rows("arrived_at,num_prefill_tokens,num_decode_tokens\n0.5,4808,10\n")[0][:3] == (0.5, 4808, 10)


def test_lengths_need_no_time():
    found = rows("num_prefill_tokens,num_decode_tokens,pd_ratio\n18,243,0.07\n", timeless=True)
    assert found[0][:3] == (0.0, 18, 243)
    with pytest.raises(TraceError, match=r"t.csv:1:1: is no known header"):
        rows("num_prefill_tokens,num_decode_tokens\n18,243\n")


def test_ours_may_say_who_asks():
    (row,) = rows(OURS + ',tenant,session,region,model,band\r\n1.5,10,20,"ann, bob",7,eu,big,batch\r\n\r\n')
    assert row == (1.5, 10, 20, (), "ann, bob", 7, "eu", "big", "batch")


def test_mooncakes_keep_whole_blocks_only():
    (row,) = rows(
        '{"timestamp": 1500, "input_length": 1100, "output_length": 9, "hash_ids": [4, 8, 9]}\n', json_rows
    )
    assert row[:4] == (1.5, 1100, 9, (4, 8))
    (row,) = rows('{"timestamp": 0, "input_length": 1100, "output_length": 9}', json_rows)
    assert row.blocks == ()


@pytest.mark.parametrize(
    ("text", "line", "column", "wrong"),
    [
        ("", 0, 1, "no known header"),
        ("a,b,c\n1,2,3\n", 1, 1, "no known header"),
        (OURS + ",tennant\n", 1, 39, "unknown column 'tennant'"),
        (OURS + "\n1,2,3\n1,2\n", 3, 1, "has 2 values"),
        (OURS + "\n1,2,3\n1.5,x,3\n", 3, 5, "prompt_tokens is 'x'"),
        (OURS + "\n1,2,3\n\n1.5,2,0\n", 4, 7, "output_tokens is '0'"),
        (OURS + "\n1,99999999999,3\n", 2, 3, "prompt_tokens is '99999999999'"),
        (OURS + "\nnan,2,3\n", 2, 1, "arrived_s is 'nan'"),
        (OURS + "\n-1,2,3\n", 2, 1, "arrived_s is '-1'"),
        (OURS + ",session\n1,2,3,x\n", 2, 7, "session is 'x'"),
        (OURS + ",session\n1,2,3,-5\n", 2, 7, "session is '-5'"),
        (OURS + '\n1,2,"3\n', 2, 0, "comma-separated"),
        (AZURE + "yesterday,2,3\n", 2, 1, "TIMESTAMP is 'yesterday'"),
        (AZURE + "2023-11-16 18:15:46.68,2,\n", 2, 26, "GeneratedTokens is ''"),
    ],
)
def test_a_broken_line_says_where_and_what(text, line, column, wrong):
    with pytest.raises(TraceError) as caught:
        rows(text)
    error = caught.value
    assert (error.line, error.column) == (line, column)
    assert wrong in error.wrong
    assert str(error).startswith("t.csv")
    assert isinstance(error, BadRequest)


@pytest.mark.parametrize(
    ("text", "column", "wrong"),
    [
        ('{"timestamp": 0, "input_length": 5', 1, "not JSON"),
        ('{"timestamp": 0, "input_length": 5, "output_length": "6"}', 37, "output_length"),
        ('{"timestamp": 0, "input_length": 0, "output_length": 6}', 18, "input_length"),
        ('{"timestamp": -1, "input_length": 5, "output_length": 6}', 2, "timestamp"),
        ('{"timestamp": 0, "input_length": 5}', 1, "output_length"),
        (
            '{"timestamp": 0, "input_length": 5, "output_length": 6, "hash_ids": [1, 2]}',
            57,
            "2 blocks of 512 for 5 tokens",
        ),
        ('{"timestamp": 0, "input_length": 5, "output_length": 6, "hash_ids": ["a"]}', 57, "hash_ids"),
        ("{'timestamp': 0}", 2, "not JSON"),
    ],
)
def test_a_broken_line_of_json_says_where_and_what(text, column, wrong):
    good = '{"timestamp": 0, "input_length": 5, "output_length": 6, "hash_ids": [1]}\n'
    with pytest.raises(TraceError) as caught:
        rows(good + text + "\n", json_rows)
    assert (caught.value.line, caught.value.column) == (2, column)
    assert wrong in caught.value.wrong
