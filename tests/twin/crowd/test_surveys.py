from math import inf

from underlay.twin.crowd import trace_files
from underlay.twin.crowd.surveys import survey


def test_a_trace_is_counted_by_the_second(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(
        "arrived_s,prompt_tokens,output_tokens,tenant,region,model,band\n"
        "0.5,1,1,ann,eu,m,batch\n0.9,1,1,bob,,,\n7,1,1,ann,us,,\n"
    )
    found = survey(path)
    assert [found.between(*times) for times in ((0, inf), (0, 1), (0.2, 0.3), (1, 7), (1, 7.5))] == [3, 2, 2, 0, 1]
    assert (found.count, found.last_s, list(found.regions), list(found.models)) == (3, 7.0, ["eu", "us"], ["m"])
    assert found.tenants == {"ann": "batch", "bob": ""}


def test_it_is_looked_at_once_until_it_is_changed(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("arrived_s,prompt_tokens,output_tokens\n1,1,1\n")
    first = survey(path)
    assert survey(path) is first
    path.write_text("arrived_s,prompt_tokens,output_tokens\n1,1,1\n2,1,1\n")
    assert survey(path).count == 2


def test_what_is_kept_is_spread_over_all():
    found = survey(trace_files.locate("azure-2023-conv"))
    assert 2048 <= len(found.kept) <= 4096
    mean = sum(row.prompt_tokens for row in found.kept) / len(found.kept)
    assert abs(mean - 1155) < 50
    assert found.kept[-1].at_s > 3490
