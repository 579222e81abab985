import pytest

from underlay.domain.errors import BadRequest
from underlay.twin.crowd import servegen_files
from underlay.twin.crowd.arrivals import GammaGaps, WeibullGaps
from underlay.twin.crowd.trace_formats import TraceError

RATES = "client,t_s,rate_rps,cv,pattern,arg1,arg2\n"
QUANTILES = "client,t_s,field,mean," + ",".join(servegen_files.QUANTILES) + "\n"
LEVELS = ",".join(str(10 * n) for n in range(1, 12))


@pytest.fixture
def written(tmp_path):
    def write(rates, quantiles):
        (tmp_path / "mine_rates.csv").write_text(RATES + rates)
        (tmp_path / "mine_token_quantiles.csv").write_text(QUANTILES + quantiles)
        return str(tmp_path / "mine_rates.csv")

    return write


def test_clients_are_read_with_their_gaps_and_sizes(written):
    both = f"7,0,input_tokens,0,{LEVELS}\n7,0,output_tokens,0,{LEVELS}\n7,0,reason_ratio,0,{LEVELS}\n"
    later = f"7,21600,input_tokens,0,{LEVELS}\n7,21600,output_tokens,0,{LEVELS}\n8,0,input_tokens,0,{LEVELS}\n"
    clients = servegen_files.load(
        written("7,600,2,1,Gamma,0.25,9\n8,600,6,1,Weibull,0.5,9\n7,0,1,1,Weibull,2,9\n", both + later)
    )
    assert list(clients.windows) == [0, 600]
    assert clients.windows[600.0] == [("7", 2.0, GammaGaps(cv=2.0))]
    assert clients.windows[0.0][0].process == WeibullGaps(shape=2.0)
    assert (clients.unsized, clients.unsized_share) == ((1, 2), pytest.approx(6 / 9))
    assert [clients.sizes_at("7", at).since_s for at in (0, 21_599, 21_600, 9e9)] == [0, 0, 21_600, 21_600]


def test_the_shipped_sets():
    assert servegen_files.shipped() == ("deepseek-r1", "m-large")
    clients = servegen_files.load("deepseek-r1")
    assert (len(clients.sizes), len(clients.windows), clients.unsized) == (73, 144, (0, 73))
    assert servegen_files.load("deepseek-r1") is clients


@pytest.mark.parametrize(
    ("rates", "quantiles", "wrong"),
    [
        ("7,0,x,1,Gamma,1,1\n", "", r"mine_rates.csv:2:5: 'x' is no number"),
        ("7,0,1,1,Pareto,1,1\n", "", r"mine_rates.csv:2:1: pattern is 'Pareto'"),
        ("7,0,1,1,Gamma,0,1\n", "", "arg1 is 0, which is no shape"),
        ("7,0,1,1,Weibull,0.01,1\n", "", "arg1 is 0.01, which is no shape"),
        ("7,0,1\n", "", "has 3 values"),
        ("7,0,0,1,Gamma,1,1\n", "", "nobody calls in it"),
        ("", "", "nobody calls in it"),
        (
            "7,0,1,1,Gamma,1,1\n",
            "7,0,input_tokens,0,9," + LEVELS[3:] + "\n7,0,output_tokens,0,9" + ",5" * 10 + "\n",
            "quantiles fall",
        ),
    ],
)
def test_a_broken_line_says_where_and_what(written, rates, quantiles, wrong):
    with pytest.raises(TraceError, match=wrong):
        servegen_files.load(written(rates, quantiles))


def test_a_file_that_lacks_a_column_or_is_not_there(tmp_path):
    path = tmp_path / "a_rates.csv"
    path.write_text("client,t_s\n")
    (tmp_path / "a_token_quantiles.csv").write_text(QUANTILES)
    with pytest.raises(TraceError, match=r"a_rates.csv:1:1: has no column 'pattern'"):
        servegen_files.load(str(path))
    (tmp_path / "a_token_quantiles.csv").unlink()
    with pytest.raises(TraceError, match=r"a_token_quantiles.csv: cannot be read"):
        servegen_files.load(str(path))
    with pytest.raises(BadRequest, match="did you mean 'm-large'"):
        servegen_files.load("m-largee")
