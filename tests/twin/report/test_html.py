"""The page: whole in itself, honest before its first figure, and safe with any stranger's words."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from tests.twin.runs import add, empty, queue

from underlay.twin.experiment import Variant, experiment_of, trials_of
from underlay.twin.records import Account, Series
from underlay.twin.report.html import page
from underlay.twin.report.markup import Html, element, table
from underlay.twin.report.wording import NOTHING
from underlay.twin.summary import summarise
from underlay.twin.trials import Ended

NASTY = "</style><script>alert(1)</script>$x^{$ & 'q' \"p\" 東京"


def made(variants, seeds, make):
    names = [Variant(name, "q.yaml") for name in variants]
    ended = [
        Ended(trial, summarise(make(trial.variant.name, trial.seed)), None) for trial in trials_of(names, seeds)
    ]
    return experiment_of(names, seeds, ended)


def servers(name, seed):
    return queue(seed, servers=int(name), duration_s=300.0)


@pytest.fixture(scope="module")
def run():
    return page(made(["4"], [1], servers), kind="run", command="underlay twin run q.yaml --seed 1")


@pytest.fixture(scope="module")
def compared():
    return page(made(["4", "6"], [1, 2, 3], servers), kind="compare")


class Reader(HTMLParser):
    """Reads a page as a browser does: which tags open and close, which ids and references there are."""

    VOID = ("meta", "use", "path", "rect")

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.ids, self.used, self.attributes, self.words = [], [], [], set(), [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            self.used |= set(re.findall(r"url\(#([^)]+)\)", value or ""))
            if name.endswith("href") and value.startswith("#"):
                self.used.add(value[1:])
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def read(text):
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    return reader


def test_the_page_loads_nothing_and_runs_nothing(run, compared):
    for text in (run, compared):
        reader = read(text)
        assert "default-src 'none'" in text
        assert not {"script", "link", "iframe", "object", "embed", "img", "base", "form"} & set(reader.tags)
        assert not [name for name, _ in reader.attributes if name.startswith("on")]
        addresses = {value for _, value in reader.attributes if value and "//" in value}
        assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
        assert "@import" not in text
        assert not re.search(r"url\((?!#)", text)


def test_every_reference_in_the_page_is_to_one_thing(run, compared):
    for text in (run, compared):
        reader = read(text)
        assert len(reader.ids) == len(set(reader.ids))
        assert reader.used <= set(reader.ids)


def test_the_same_figures_make_the_same_bytes_in_another_process(run):
    code = (
        "import sys; sys.path.insert(0, '.')\n"
        "from underlay.twin.experiment import *; from underlay.twin.summary import summarise\n"
        "from underlay.twin.trials import Ended; from underlay.twin.report.html import page\n"
        "from tests.twin.runs import queue\n"
        "v = [Variant('4', 'q.yaml')]; (t,) = trials_of(v, [1])\n"
        "e = experiment_of(v, [1], [Ended(t, summarise(queue(1, servers=4, duration_s=300.0)), None)])\n"
        "sys.stdout.write(page(e, kind='run', command='underlay twin run q.yaml --seed 1'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == run


def test_pictures_have_names_captions_tables_and_the_colours_of_the_page(run):
    figures = re.findall(r"<figure>.*?</figure>", run, re.DOTALL)
    assert len(figures) == 9
    for figure in figures:
        assert re.search(r'<svg [^>]*role="img" aria-label="[A-Z][^"]+"', figure)
        assert "<figcaption>" in figure
        assert "<table>" in figure
        assert not re.search(r"#0[0-9a-f]{5}\b", figure), "every colour was put in"
        assert "<style" not in figure
        assert "var(--hue0)" in figure
    css = run[run.index("<style>") : run.index("</style>")]
    defined = set(re.findall(r"--([a-z0-9-]+):", css))
    assert set(re.findall(r"var\(--([a-z0-9-]+)\)", run)) <= defined


def test_what_was_run_and_what_to_distrust_comes_first(run):
    words = " ".join(read(run).words)
    for told in ("SIMULATED", "queue", "5 min", "TTFT within 1 s", "extrapolated", "surge begins"):
        assert told in words
    assert run.index("What to distrust") < run.index("Key figures") < run.index("<figure>")
    assert "underlay twin run q.yaml --seed 1" in words
    assert f"{1:032x}" in words


def test_a_comparison_has_verdicts_in_words_and_not_only_colours(compared):
    words = read(compared).words
    assert "▲ better" in words
    assert "▼ worse" in words
    assert "no difference shown" in words
    assert any("95 %" in word for word in words)
    assert "Cost and latency" in words
    assert "Throughput and latency" in words


def test_a_cut_run_says_so_before_its_figures():
    experiment = made(["4"], [1], lambda name, seed: queue(seed, duration_s=600.0, until_s=200.0))
    experiment.planned = 3
    text = page(experiment, kind="run")
    assert "this report is partial" in text
    assert "stopped at 3 min 20 s of 10 min" in text
    assert "2 of 3 runs were not started" in text
    assert text.index("this report is partial") < text.index("Key figures")


def test_no_stranger_writes_in_the_page():
    def nasty(name, seed):
        result = queue(seed, duration_s=60.0)
        add(result, 1.0, 0.1, 0.2, tenant=NASTY, region=NASTY, model=NASTY, served_in=NASTY)
        result.scenario = result.trace_hash = NASTY
        result.warnings, result.happenings = [NASTY], [(1.0, NASTY)]
        result.accounts.append(Account.of(NASTY, "cooling", 1.0, "kWh", "modelled", NASTY))
        result.series.values[f"{NASTY}.power_w"] = [1.0] * len(result.series.times_s)
        return result

    for variants in ([NASTY], [NASTY, NASTY + "2"]):
        text = page(made(variants, [1, 2], nasty), kind="run" if len(variants) == 1 else "compare", command=NASTY)
        reader = read(text)
        assert "script" not in reader.tags
        assert sum(NASTY in word for word in reader.words) > 5
        assert not {"x", "b"} & set(reader.tags)


def test_of_nothing_there_is_a_page_all_the_same():
    for make in (lambda name, seed: empty(), lambda name, seed: empty(simulated_s=0.0, partial=True)):
        read(page(made(["a"], [1], make), kind="run"))
    nothing = made(["a", "b"], [], servers)
    nothing.planned = 2
    assert "2 of 2 runs were not started" in page(nothing, kind="sweep")


def test_a_page_stays_small_however_much_there_is():
    def large(name, seed):
        result = queue(seed, duration_s=30.0)
        for number in range(400):
            add(result, 1.0, 0.1, 0.2, tenant=f"tenant {number} " * 40, region=f"region {number}")
            result.happenings.append((number / 100, f"happening {number} " * 50))
            result.warnings.append(f"warning {number} " * 50)
            result.accounts.append(Account.of(f"region {number}", "cooling", 1.0, "kWh", "modelled", "b" * 500))
        steps = range(20_000)
        waves = {f"region {number}.running": [float(step % 7) for step in steps] for number in range(20)}
        result.series = Series([float(step) for step in steps], waves)
        return result

    text = page(made([f"{number}" for number in range(60)][:2], [1], large), kind="compare")
    assert len(text.encode()) < 1_500_000
    assert "14 more places are not drawn" in text


def test_markup_escapes_text_and_leaves_markup():
    assert element("p", "<b>", Html("<i>x</i>"), class_='a"b') == '<p class="a&quot;b">&lt;b&gt;<i>x</i></p>'
    numbers = table(("name", "value"), [("a", "1,000"), ("b", NOTHING), ("c", "2.0 ± 0.1")], "T")
    assert numbers.count('class="number"') == 4
