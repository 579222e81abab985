"""Sections become what the twin runs on, one to one."""

import random
from itertools import islice

import msgspec
import pytest
from tests.twin.journals import Recorder

from underlay.physics import profiles
from underlay.physics.step_power import StepJoules, StepPower
from underlay.twin.crowd.impatience import Impatient
from underlay.twin.engine import PagedRules, SlotRules
from underlay.twin.kernel import Kernel
from underlay.twin.scenario import (
    build_crowds,
    build_desk,
    build_energy,
    build_faults,
    build_models,
    build_world,
    read,
)
from underlay.twin.world.faults import Fault
from underlay.twin.world.links import Links
from underlay.twin.world.placement import Placement
from underlay.twin.world.servers import Servers

TWO = "world: {regions: [{name: west, like: azure/westus2, clients: 3}, {name: east, like: azure/japaneast}]}\n"


def test_crowds_are_shared_among_regions_by_their_clients(scenario):
    made = scenario(TWO, "crowds: [{arrivals: {rate_per_s: 4, over_time: [diurnal]}, lengths: sharegpt}]\n")
    callers = build_crowds.callers(made, 0)
    assert (callers.name, callers.tenants) == ("crowd1", {"crowd1": ""})
    west, east = callers.crowd.crowds
    assert (west.region, west.arrivals.rate_per_s, west.arrivals.over_time[0].utc_offset_h) == ("west", 3.0, -8.0)
    assert (east.region, east.arrivals.rate_per_s, east.arrivals.over_time[0].utc_offset_h) == ("east", 1.0, 9.0)
    calls = list(islice(callers.crowd.calls(random.Random(1)), 50))
    assert {call.model for call in calls} == {"chat"}
    assert {call.region for call in calls} == {"west", "east"}


def test_times_with_units_reach_the_crowd_in_seconds(scenario):
    made = scenario(
        "duration: 1 h\n",
        """\
crowds:
  - name: people
    arrivals:
      rate_per_s: 2
      start: 1 min
      process: {kind: gamma, cv: 3}
      over_time: [{at: 10 min, lasts: 5 min, rise: 30 s, factor: 4}]
    sessions: {turns: 3, think: 10}
    tenants: [{name: a, weight: 2, deadline: 30 s}, {name: b, band: batch}]
    impatience: {tries: 2, backoff: 250 ms, patience: 20}
""",
    )
    callers = build_crowds.callers(made, 0)
    assert callers.tenants == {"a": "", "b": "batch"}
    assert isinstance(callers.crowd, Impatient)
    assert (callers.crowd.impatience.tries, callers.crowd.impatience.backoff_s) == (2, 0.25)
    crowd = callers.crowd.crowd.crowds[0]
    surge = crowd.arrivals.over_time[0]
    assert (surge.at_s, surge.for_s, surge.rise_s, surge.factor) == (600.0, 300.0, 30.0, 4.0)
    assert (crowd.arrivals.start_s, crowd.arrivals.process.cv) == (60.0, 3.0)
    assert (crowd.context_tokens, crowd.link_tokens, crowd.tenants[0].deadline_s) == (8192, 512, 30.0)


def test_a_trace_keeps_what_it_is_told(scenario):
    made = scenario(
        "", "crowds: [{trace: {name: azure-2023-conv, mean_rate_per_s: 50, stop: 10 min}, region: home}]\n"
    )
    trace = build_crowds.callers(made, 0).crowd
    assert (trace.trace, trace.mean_rate_per_s, trace.stop_s, trace.speed) == ("azure-2023-conv", 50.0, 600.0, None)
    assert [region.name for region in trace.regions] == ["home"]


def test_engines_go_by_their_own_rules(scenario):
    made = scenario(
        """\
        models:
          - {name: a, engine: {max_sequences: 64, step_tokens: 2048, blocks: 1000}}
          - {name: b, model: gemma-3-1b, engine: {kind: llamacpp, slots: 8, link_tokens: 512}, context_tokens: 4096}
        """
    )
    a, b = made.models
    assert build_models.rules(a, "h100-sxm") == PagedRules(
        blocks=1000, max_sequences=64, step_tokens=2048, context_tokens=8192
    )
    assert build_models.rules(b, "l4") == SlotRules(slots=8, slot_tokens=4096, link_tokens=512)
    assert build_models.profile(a, "h100-sxm").method in {"calibrated", "modelled"}
    assert build_models.profile(b, "l4").method == "assumed"


def test_a_calibrated_profile_takes_the_place_of_those_that_ship(scenario, tmp_path):
    line = next(iter(profiles.lines().values()))
    mine = msgspec.structs.replace(line, host_ms=line.host_ms + 100, source="measured here")
    (tmp_path / "mine.json").write_bytes(msgspec.json.encode(mine))
    model = scenario("models: [{profile: mine.json}]\n").models[0]
    found = build_models.profile(model, "h100-sxm")
    assert found.source == "measured here"
    assert found.coefficients.host_s == pytest.approx(line.coefficients().host_s + 0.1)


def test_a_profile_that_was_metered_says_what_is_drawn(scenario, tmp_path):
    joules = StepJoules(1.0, 1.0, 1.0, 1.0)
    power = StepPower("calibrated", "m", "b", joules, 0.1, "", (1, 8), (150.0, 250.0), 300.0, idle_w=40.0)
    line = msgspec.structs.replace(next(iter(profiles.lines().values())), power=power)
    (tmp_path / "mine.json").write_bytes(msgspec.json.encode(line))
    made = scenario("models: [{profile: mine.json}]\n")
    curve = build_energy.curve(build_models.profile(made.models[0], "h100-sxm").power, "h100-sxm", 1)
    assert [curve.power_w(n) for n in (0, 1, 8)] == pytest.approx([40.0, 150.0, 250.0])
    (kind,) = made.world.servers
    assert build_energy.equipment_of(made, kind).idle_w == 40.0
    beyond = msgspec.structs.replace(power, idle_w=None, above_idle=True)
    published_w = build_energy.curve(beyond, "h100-sxm", 2).power_w(0)
    assert published_w == 2 * build_energy.equipment_of(scenario(""), kind).idle_w
    assert build_energy.curve(beyond, "h100-sxm", 2).power_w(1) == pytest.approx(published_w + 150.0)


def test_all_replicas_find_room_largest_first(scenario):
    made = scenario(
        TWO + "models:\n"
        "  - {name: small, replicas: {west: 5, east: 1}}\n"
        "  - {name: large, model: llama-3.1-70b, parallelism: tp4, replicas: 2}\n"
    )
    places = build_world.topology(made)
    placement = Placement(places)
    asked = list(build_models.replicas(made))
    assert [replica.name for replica in asked][:4] == [
        "large-west-1",
        "large-west-2",
        "large-east-1",
        "large-east-2",
    ]
    for replica in asked:
        placement.place(replica.name, replica.accelerators, replica.accelerator, within=replica.region)
    assert len(placement.slots) == 10
    assert len(places.servers) == 4


def test_a_world_has_places_power_and_links(scenario):
    made = scenario(
        """\
        world:
          ups: eco
          servers: [{name: hgx}, {name: old, accelerator: a100-80-sxm, host_power_w: 1500}]
          regions:
            - name: west
              like: azure/westeurope
              usd_per_kwh: 0.1
              sites:
                - name: ams
                  power_cap: 2 MW
                  halls:
                    - {name: a, count: 2, racks: 3, rack_power_cap: 60 kW}
                    - {name: b, racks: 1, servers_per_rack: 2, server: old}
          links: {nic_gb_s: 25}
          storage: {source: disk, initialise: 30 s}
        """
    )
    places = build_world.topology(made)
    assert len(places.servers) == 2 * 3 * 4 + 2
    assert places.node("west/ams").cap_w == 2e6
    assert places.node("west/ams/a1/r3").cap_w == 60e3
    equipped = build_energy.equipment(made, places)
    assert equipped[-1].host.idle_w == 1500.0
    assert 4000 < equipped[0].accelerators * equipped[0].rated_w < 6000
    empty = Servers(equipped).use(10.0, 10.0)
    assert [server.idle_w for server in places.servers] == pytest.approx((empty.total / 10.0).tolist())
    assert places.node("west/ams/a1/r1/s1").idle_w < equipped[0].peak_w
    supply = build_energy.supplies(made, places, equipped)["west/ams"]
    assert supply.price.mean == 0.1
    assert supply.pue is not None
    fabric = build_world.fabric(made, places, Links(Kernel(0)))
    assert fabric.rates.nic == 25e9
    started = build_world.start_settings(made)
    assert (started.source, started.initialise_s) == ("disk", 30.0)


def test_accelerators_of_unknown_power_stand_all_the_same(scenario):
    made = scenario(
        "world: {servers: [{accelerator: trainium2}]}\nmodels: [{model: llama-3.1-8b}]\n",
    )
    places = build_world.topology(made)
    assert build_energy.equipment(made, places)[0].rated_w == 0.0
    assert list(build_energy.unknown_power(made))


def test_desks_decide_as_the_policies_say(scenario):
    made = scenario(
        """\
        seed: 7
        models: [{name: chat, context_tokens: 4096, price: {prompt_usd_per_mtok: 1}}]
        policies:
          routing: lmetric
          bands: [{name: fast}, {name: slow, share: 0.1}]
          accounts: [{tenant: a, weight: 2, budgets: [{tokens: 100, per: day}]}]
          limits: {concurrent: 5}
        """
    )
    settings = build_desk.desk_settings(made)
    assert (settings.routing, settings.seed) == ("lmetric", 7)
    assert build_desk.desk_settings(made, seed=9).seed == 9
    assert [(band.name, band.share) for band in settings.bands] == [("fast", 0.0), ("slow", 0.1)]
    assert (settings.accounts[0].weight, settings.accounts[0].budgets[0].tokens) == (2.0, 100)
    assert settings.default_limits.concurrent == 5
    assert [(model.name, model.context_tokens) for model in settings.models] == [("chat", 4096)]


def test_faults_keep_time_place_and_settings(scenario):
    made = scenario(
        """\
        faults:
          - {kind: power, at: 1 min, lasts: 2 min, where: home, left: 0.5}
          - {kind: deployment, at: 30 s, where: chat-*, share: 0.5, slower: 3, crash_after: 1 min}
        """
    )
    power, deployment = build_faults.faults(made)
    assert power == Fault("power", 60.0, "home", 120.0, {"left": 0.5}, ("faults", 0))
    assert deployment.settings == {"share": 0.5, "slower": 3.0, "failing": 0.0, "crash_after_s": 60.0}


@pytest.mark.parametrize(
    ("name", "accelerators"),
    [("one-site", 72), ("three-regions-day", 64), ("deferrable-day", 72), ("hundred-thousand", 100_000)],
)
def test_what_comes_along_stands(name, accelerators):
    assert build_world.topology(read(name)).accelerators == accelerators


def test_a_live_journal_is_a_crowd(tmp_path, scenario):
    recorder = Recorder()
    recorder.crowd(20)
    path = recorder.write(tmp_path / "live.journal")
    served = scenario("models: [{name: chat}]\n", f"crowds: [{{journal: {path.name}}}]\n")
    (crowd,) = build_crowds.crowds(served)
    made = list(crowd.crowd.calls(random.Random(1)))
    assert len(made) == 20
    assert {(call.model, call.tenant, call.region) for call in made} == {("chat", "team", "home")}
    assert crowd.tenants == {"": "", "team": ""}
    thrice = scenario("", f"crowds: [{{journal: {{path: {path.name}, times: 3, at: 60 s}}}}]\n")
    assert len(list(build_crowds.crowds(thrice)[0].crowd.calls(random.Random(1)))) == 60
