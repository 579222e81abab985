"""What Prometheus is told of meters, by itself and of a platform that runs."""

from __future__ import annotations

import re
import urllib.request

from prometheus_client import generate_latest
from tests.live.wire import engines, eventually, model
from tests.support.meters import Clock, SimulatedMeter
from tests.support.platform import running_platform

from underlay.live.meters.track import Track
from underlay.live.metrics import Metrics

LABELS = 'boundary="host/accelerator-0",meter="simulated:host/accelerator-0",method="measured"'


def test_joules_gaps_and_whether_a_meter_reads() -> None:
    clock = Clock(0.0)
    meter = SimulatedMeter(lambda now: 100.0 * now, clock, peak_w=100)
    track, metrics = Track(meter, 10), Metrics("1", [])
    metrics.add_meters(lambda: [track.total()])
    for _ in range(3):
        track.add(meter.read())
        clock.on(1.0)
    track.add(None)
    lines = generate_latest(metrics.registry).decode().splitlines()
    assert f"underlay_energy_joules_total{{{LABELS}}} 200.0" in lines
    assert f"underlay_meter_gaps_total{{{LABELS}}} 1.0" in lines
    assert f"underlay_meter_up{{{LABELS}}} 0.0" in lines
    assert "# TYPE underlay_energy_joules_total counter" in lines


def test_a_platform_tells_the_meters_of_its_machine_and_stops_with_them(tmp_path) -> None:
    with engines(1, slots=4, model="m") as (engine,):
        settings = {
            "models": [model([engine.url], slots=4, template="transcript")],
            "meters": {"rapl": "off", "nvml": "off"},
        }
        with running_platform(tmp_path, settings) as platform:

            def told() -> list[str]:
                with urllib.request.urlopen(f"{platform.console_url}/metrics", timeout=5) as reply:
                    return re.findall(r"^underlay_meter_up\{(.*)\} 1.0$", reply.read().decode(), re.MULTILINE)

            eventually(told)
            assert 'boundary="host/board",meter="processor:engines"' in told()[0]
