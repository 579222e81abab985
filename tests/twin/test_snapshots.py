"""A snapshot in the middle of a run goes on as the run does, and neither touches the other."""

from __future__ import annotations

from copy import deepcopy
from random import Random

import pytest

from underlay.twin import simulation
from underlay.twin.crowd.call import Call
from underlay.twin.exchange import Stream
from underlay.twin.scenario import read, with_settings
from underlay.twin.scenario.build_desk import desk_settings
from underlay.twin.simulation import never, nobody_watches, simulation_of

BUSY = """
duration: 40 s
world:
  regions:
    - {name: west, like: azure/westeurope}
    - {name: east, like: azure/eastus}
models:
  - {name: chat, model: llama-3.1-8b, replicas: 2, engine: {max_sequences: 8, blocks: 3000}}
policies: {wait_max_s: 5, region_choice: spill, hedge_share: 0.05}
faults:
  - {kind: crash, at: 12, where: west, share: 0.5}
crowds:
  - name: talkers
    arrivals: {rate_per_s: 3, process: gamma}
    sessions: {turns: {mean: 3}, think: {mean: 3}}
  - name: impatient
    arrivals: {rate_per_s: 6, over_time: [{kind: surge, at: 10, factor: 3, lasts: 10}]}
    prompt_tokens: {mean: 600}
    output_tokens: {mean: 150}
    impatience: {patience: {mean: 2}}
    tenants: [{name: a, prefix_tokens: 512, weight: 3}, {name: b, band: priority}]
"""


@pytest.fixture(scope="module")
def busy(tmp_path_factory):
    path = tmp_path_factory.mktemp("scenario") / "busy.yaml"
    path.write_text(BUSY)
    return read(path)


def end(run):
    run.go(nobody_watches, never)
    return run.result()


@pytest.mark.parametrize("at", [0.0, 13.7, 33.3])
def test_a_snapshot_runs_on_to_the_same_end(busy, at):
    run = simulation_of(busy, 4)
    run.run_to(at)
    copy = run.snapshot()
    ends = [end(run), end(copy)]
    whole = simulation.run(busy, 4)
    assert ends[0].trace_hash == ends[1].trace_hash == whole.trace_hash
    assert ends[0].events == ends[1].events == whole.events


def test_a_snapshot_of_a_snapshot_and_an_end_that_touches_no_other(busy):
    run = simulation_of(busy, 5)
    run.run_to(8.0)
    first = run.snapshot()
    end(run)
    second = first.snapshot()
    second.run_to(20.0)
    third = second.snapshot()
    assert end(first).trace_hash == end(third).trace_hash == end(second).trace_hash


def test_other_settings_from_a_time_on_change_what_comes_after_it_only(busy):
    run = simulation_of(busy, 6)
    run.run_to(10.0)
    other = run.snapshot()
    settings = desk_settings(with_settings(busy, {"policies.routing": "random"}), 6)
    other.change_settings(settings)
    before, after = end(run).requests, end(other).requests
    assert before.hash() != after.hash()
    ended = before.column("arrived_s") + before.column("e2e_s") < 9.0
    count = int(ended[: ended.argmin()].sum())
    assert count > 10
    for column in ("arrived_s", "e2e_s", "replica"):
        assert before.column(column)[:count].tolist() == after.column(column)[:count].tolist()


class Numbered:
    """A crowd whose calls come of a generator."""

    follows = False

    def calls(self, dice):
        for number in range(10):
            yield Call(number + dice.random(), 1, 1)


def test_a_stream_is_copied_with_what_it_has_drawn():
    stream = Stream(Numbered(), Random(1), Random(2))
    for _ in range(4):
        stream.next_call()
    copies = [deepcopy(stream), deepcopy(deepcopy(stream))]
    rest = [[call.at for call in iter(one.next_call, None)] for one in (stream, *copies)]
    assert rest[0] == rest[1] == rest[2]
    assert len(rest[0]) == 6
    assert deepcopy(stream).next_call() is None
