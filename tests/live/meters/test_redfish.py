"""A management controller: found, asked, believed only as far as it makes sense."""

from __future__ import annotations

import base64
import gzip
import ssl
import threading
import time

import pytest
from tests.support.meters import Clock, Controller

from underlay.live.meters import redfish
from underlay.live.meters.redfish import RedfishMeter, watts
from underlay.live.settings import RedfishSettings

POWER = {"PowerControl": [{"PowerConsumedWatts": 300}, {"PowerConsumedWatts": 120, "Name": "CPU"}]}


def chassis(*names: str) -> dict:
    return {"/redfish/v1/Chassis": {"Members": [{"@odata.id": f"/redfish/v1/Chassis/{name}"} for name in names]}}


@pytest.fixture
def controller():
    with Controller() as started:
        yield started


@pytest.fixture
def meter(controller):
    made = RedfishMeter(settings(controller), clock=Clock())
    yield made
    made.close()


def settings(controller: Controller, path: str = "/power", **more) -> RedfishSettings:
    return RedfishSettings(url=controller.url + path, insecure=True, **more)


def test_watts_become_joules(controller, meter) -> None:
    before = meter.read()
    meter._clock.on(2)
    controller.answers["/power"] = {"PowerControl": [{"PowerConsumedWatts": 500}]}
    consumed = meter.consumed(before, meter.read())
    assert consumed.joules == 800
    assert consumed.low_joules == pytest.approx(max(0.0, 600 * 0.95 - 500))
    assert consumed.high_joules == pytest.approx(1000 * 1.05 + 500)


@pytest.mark.parametrize(
    ("said", "power_w"),
    [
        (POWER, 300.0),
        ({"PowerWatts": {"Reading": 374.5}}, 374.5),
        ({"PowerControl": [{"PowerConsumedWatts": None}]}, None),
        ({"PowerControl": [{}]}, None),
        ({"PowerControl": ["300"]}, None),
        ({"PowerControl": [{"PowerConsumedWatts": "300"}]}, None),
        ({"PowerControl": [{"PowerConsumedWatts": True}]}, None),
        ({"PowerControl": [{"PowerConsumedWatts": -1}]}, None),
        ({"PowerControl": [{"PowerConsumedWatts": 0}]}, None),
        ({"PowerControl": [{"PowerConsumedWatts": 1e300}]}, None),
        ({"PowerControl": {}}, None),
        ({"PowerWatts": 300}, None),
        ([], None),
        (None, None),
        ("300", None),
    ],
)
def test_only_a_sensible_number_is_power(said, power_w) -> None:
    assert watts(said) == power_w


def test_without_a_path_the_one_chassis_that_tells_its_power_is_found(controller) -> None:
    controller.answers = chassis("rack", "node") | {
        "/redfish/v1/Chassis/rack/Power": {"PowerControl": []},
        "/redfish/v1/Chassis/node/EnvironmentMetrics": {"PowerWatts": {"Reading": 374}},
    }
    meter = RedfishMeter(settings(controller, ""))
    assert meter.read() is not None
    asked = len(controller.asked)
    assert meter.read() is not None
    assert controller.asked[asked:] == ["/redfish/v1/Chassis/node/EnvironmentMetrics"]
    meter.close()


def test_several_chassis_with_power_are_not_guessed_between(controller) -> None:
    controller.answers = chassis("a", "b") | {f"/redfish/v1/Chassis/{name}/Power": POWER for name in "ab"}
    found = redfish.find(settings(controller, "/"))
    assert found.wrong
    assert "several chassis tell their power" in found.why


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        (chassis(), "no chassis tells its power"),
        (chassis(*map(str, range(40))), "there are 40 chassis"),
        ({"/redfish/v1/Chassis": {"Members": [{"@odata.id": "http://elsewhere/"}, 3, None]}}, "no chassis"),
        ({"/redfish/v1/Chassis": []}, "no chassis"),
        ({}, "answers 404"),
    ],
)
def test_a_search_that_finds_nothing_says_so(controller, answers, why) -> None:
    controller.answers = answers
    assert why in redfish.find(settings(controller, "")).why


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"<html><body>Please log in</body></html>", "something else than JSON"),
        (b"", "something else than JSON"),
        (b"[" * 100_000, "something else than JSON"),
        (b"\xff\xfe", "something else than JSON"),
        (b"9" * 2_000_000, "more than"),
        (b'{"PowerControl": [{"PowerConsumedWatts": NaN}]}', "something else than JSON"),
        (b"{}", "tells no power"),
    ],
)
def test_a_stranger_is_no_reading(controller, meter, body, why) -> None:
    controller.answers["/power"] = body
    assert meter.read() is None
    assert why in meter.trouble
    controller.answers["/power"] = POWER
    meter._clock.on(5)
    assert meter.read() is not None
    assert meter.trouble == ""


@pytest.mark.parametrize("status", [204, 301, 401, 403, 500, 503])
def test_only_200_is_an_answer_and_nobody_is_followed(controller, meter, status) -> None:
    controller.answers["/elsewhere"] = POWER
    controller.status, controller.headers = status, {"Location": "/elsewhere"}
    assert meter.read() is None
    assert f"answers {status}" in meter.trouble
    assert "/elsewhere" not in controller.asked


def test_what_is_packed_is_not_unpacked(controller, meter) -> None:
    controller.answers["/power"] = gzip.compress(b"9" * 20_000_000)
    controller.headers = {"Content-Encoding": "gzip"}
    assert meter.read() is None
    assert "something else than JSON" in meter.trouble


def test_it_logs_in_with_the_password_of_the_file_and_reads_it_anew(controller, tmp_path) -> None:
    secret = tmp_path / "password"
    secret.write_text("wrong\n")
    controller.login = "Basic " + base64.b64encode("reader:pässword".encode()).decode()
    meter = RedfishMeter(settings(controller, user="reader", password_file=secret), clock=(clock := Clock()))
    assert meter.read() is None
    assert "answers 401" in meter.trouble
    assert "wrong" not in meter.trouble
    secret.write_text("pässword\n")
    clock.on(5)
    assert meter.read() is not None
    secret.unlink()
    assert meter.read() is None
    assert "No such file" in meter.trouble
    secret.write_bytes(b"\xff\xfe")
    clock.on(5)
    assert meter.read() is None
    assert "decode" in meter.trouble
    meter.close()


def test_a_slow_controller_is_given_up(controller, monkeypatch) -> None:
    monkeypatch.setattr(redfish, "REPLY_S", 0.1)
    controller.delay_s = 5.0
    meter = RedfishMeter(settings(controller))
    began = time.monotonic()
    assert meter.read() is None
    assert time.monotonic() - began < 2
    assert meter.trouble == "no answer within 0.1 s"
    meter.close()


def test_a_reading_can_be_interrupted_from_another_thread(controller) -> None:
    controller.delay_s = 60.0
    meter = RedfishMeter(settings(controller))
    said = []
    thread = threading.Thread(target=lambda: (said.append(meter.read()), meter.close()))
    thread.start()
    while not controller.asked:
        time.sleep(0.005)
    meter.interrupt()
    thread.join(2)
    assert not thread.is_alive()
    assert said == [None]
    assert meter.read() is None  # and it stays so


def test_after_a_silence_the_joules_in_between_are_unknown(meter) -> None:
    before = meter.read()
    meter._clock.on(60)
    assert meter.consumed(before, meter.read()) is None


def test_nobody_there() -> None:
    with Controller() as gone:
        pass
    found = redfish.find(settings(gone))
    assert found.wrong
    assert found.why.startswith(gone.url)
    (meter,) = found.meters  # taken all the same: it may come back
    assert meter.read() is None
    meter.close()


def test_one_that_refuses_is_asked_less_and_less_often(controller, meter) -> None:
    controller.status = 401
    for _ in range(1800):  # an hour
        assert meter.read() is None
        assert "answers 401" in meter.trouble
        meter._clock.on(2)
    assert len(controller.asked) < 25
    controller.status = 200
    meter._clock.on(300)
    assert meter.read() is not None


def test_certificates_are_checked_unless_told_otherwise(monkeypatch, tmp_path) -> None:
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with Controller(tls=context) as controller:
        assert controller.url.startswith("https:")
        strict = RedfishSettings(url=f"{controller.url}/power")
        refused = redfish.find(strict)
        assert "certificate verify failed" in refused.why
        assert controller.asked == []
        assert redfish.find(settings(controller)).why == ""
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        assert redfish.find(strict).why == ""
