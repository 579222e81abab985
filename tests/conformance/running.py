"""Runs the suite: the official SDKs, as their users install them, in processes of their own against a platform.

A lane is a platform, its engines, and one environment with one major of each SDK. The suite's files know nothing
of this repository: they get addresses and keys by environment variables.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import certifi
from tests.support.meters import Controller
from tests.support.platform import RunningPlatform, running_platform

from underlay.domain.keys import Limits
from underlay.live import keyring, locate
from underlay.live.store import Store

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SUITE = HERE / "suite"
PYTHONS = {"current": Path(sys.executable), "previous": ROOT / ".venv-previous" / "bin" / "python"}
SDKS = {"openai": "openai", "anthropic": "anthropic", "gemini": "google-genai"}
SUITE_LIMIT_S = 200

GOOD, BAD, NOT_APPLICABLE = "✓", "✗", "\N{EN DASH}"
_WORSE = (NOT_APPLICABLE, GOOD, BAD)

SCRIPTED_SETTINGS: dict[str, Any] = {
    "public": {"body_bytes_max": 4_000_000, "hold_headers_s": 0.4, "keepalive_s": 0.1},
    # Not adaptive: where the machine is busy, what latencies say would have some of 32 streams wait, and one may.
    "desk": {"waiting_max": 1, "wait_max_s": 3, "attempts_max": 2, "strikes_max": 1_000_000, "adaptive": False},
}
REAL_SETTINGS: dict[str, Any] = {
    "models": [
        {"name": "gemma", "engine": {"replicas": 1, "slots": 4, "threads": 1}},
        {"name": "vectors", "engine": {"replicas": 1, "slots": 1, "threads": 1, "embeddings": True}},
    ]
}


class Run(NamedTuple):
    """One file of the suite under one SDK: by case and way of calling, what came out."""

    sdk: str
    major: str
    version: str
    outcomes: dict[tuple[str, str], str]
    failures: tuple[str, ...]


def available(major: str) -> bool:
    return PYTHONS[major].exists()


class Engine:
    """A scripted engine in a process of its own; one that dies is started again at the same address."""

    def __init__(self) -> None:
        self._port = 0
        self._stopping = False
        self._start()
        self._keeper = threading.Thread(target=self._keep, daemon=True)
        self._keeper.start()

    def _start(self) -> None:
        command = [sys.executable, str(HERE / "engine.py"), "--port", str(self._port)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        self._process.stdout.close()
        if self._stopping:
            return
        self.url = json.loads(line)["listening"]
        self._port = int(self.url.rpartition(":")[2])

    def _keep(self) -> None:
        while not self._stopping:
            self._process.wait()
            if not self._stopping:
                self._start()

    def stop(self) -> None:
        self._stopping = True
        self._process.terminate()
        self._process.wait(10)
        self._keeper.join(10)


@contextlib.contextmanager
def scripted_lane(folder: Path) -> Iterator[dict[str, str]]:
    """A platform on scripted engines; gives the suite's environment variables."""
    with contextlib.ExitStack() as stack:
        engines = [Engine() for _ in range(3)]
        for engine in engines:
            stack.callback(engine.stop)
        controller = stack.enter_context(Controller())
        first, second, mortal = (engine.url for engine in engines)
        settings = {
            **SCRIPTED_SETTINGS,
            "meters": {
                "rapl": "off",
                "nvml": "off",
                "redfish": {"url": f"{controller.url}/power", "insecure": True},
            },
            "models": [
                _llamacpp("scripted", [first, second], context_tokens=100_000),
                _llamacpp("lonely", [first]),
                _llamacpp("busy", [first], slots=1),
                _llamacpp("mortal", [mortal]),
                _llamacpp("vectors", [first], embeddings=True),
                {"name": "remote", "engine": {"kind": "openai", "addresses": [first, second], "slots": 40}},
            ],
        }
        keys = _make_keys(folder / "data")
        platform = stack.enter_context(running_platform(folder, settings))
        _let_it_learn(platform)
        yield {
            **_environment(platform, "scripted"),
            "UNDERLAY_TEST_KEYS": json.dumps(keys),
            "UNDERLAY_TEST_MORTAL": mortal,
        }


def _let_it_learn(platform: RunningPlatform) -> None:
    """Wait until replies tell joules: a window with something to do, and one without after it, must be metered."""
    until = time.monotonic() + 60
    body = {"model": "scripted", "messages": [{"role": "user", "content": "[[tokens=20]]"}]}
    while "x-underlay-energy-joules" not in platform.ask("POST", "/v1/chat/completions", body).headers:
        assert time.monotonic() < until, platform.log.read_text()
        time.sleep(5)  # a controller is asked every two seconds, and so long are windows


def _llamacpp(name: str, addresses: list[str], context_tokens: int = 4096, **engine: Any) -> dict[str, Any]:
    base = {"addresses": addresses, "template": "transcript", "slots": 40, "stall_s": 1.5}
    return {"name": name, "context_tokens": context_tokens, "engine": {"kind": "llamacpp", **base, **engine}}


def _make_keys(data_dir: Path) -> dict[str, Any]:
    now = time.time()
    with Store(locate.prepare(data_dir)) as store:

        def make(**options: Any) -> keyring.Minted:
            return keyring.create(store, tenant="suite", at_s=now, **options)

        revoked = make()
        keyring.revoke(store, revoked.key.id, now)
        doomed = [make() for _ in range(2 * len(SDKS))]
        return {
            "poor": make(models=["remote"]).secret,
            "revoked": revoked.secret,
            "single": make(limits=Limits(concurrent=1)).secret,
            "rare": make(limits=Limits(requests_per_minute=1)).secret,
            "metered": make(limits=Limits(requests_per_minute=1_000)).secret,
            "doomed": [(minted.secret, minted.key.id) for minted in doomed],
        }


@contextlib.contextmanager
def real_lane(folder: Path, weights: Path | None) -> Iterator[dict[str, str]]:
    """A platform on the bundled model."""
    with running_platform(folder, REAL_SETTINGS, weights=weights) as platform:
        yield _environment(platform, "gemma")


def _environment(platform: RunningPlatform, model: str) -> dict[str, str]:
    return {
        "UNDERLAY_TEST_URL": platform.url,
        "UNDERLAY_TEST_CONSOLE": platform.console_url,
        "UNDERLAY_TEST_KEY": platform.key,
        "UNDERLAY_TEST_MODEL": model,
        "UNDERLAY_TEST_DATA_DIR": str(platform.data_dir),
        "UNDERLAY_TEST_KEYS_COMMAND": json.dumps([sys.executable, "-m", "underlay", "keys"]),
    }


def run_scripted(folder: Path, majors: tuple[str, ...]) -> list[Run]:
    """Run the suite of every SDK under every major, the majors side by side."""

    def lane(major: str) -> list[Run]:
        runs = []
        with scripted_lane(folder / major) as environment:
            doomed = json.loads(environment["UNDERLAY_TEST_KEYS"])["doomed"]
            for number, sdk in enumerate(SDKS):
                keys = {**json.loads(environment["UNDERLAY_TEST_KEYS"]), "doomed": doomed[2 * number :][:2]}
                own = {**environment, "UNDERLAY_TEST_KEYS": json.dumps(keys)}
                runs.append(run_suite(f"test_{sdk}.py", sdk, major, own, folder))
        return runs

    with ThreadPoolExecutor(len(majors)) as pool:
        return [run for runs in pool.map(lane, majors) for run in runs]


def run_real(folder: Path, majors: tuple[str, ...], weights: Path | None = None) -> list[Run]:
    """Run the cases of the bundled model, which may be there already, with all three SDKs in one process."""
    with real_lane(folder / "platform", weights) as environment:
        return [run_suite("test_real_engine.py", "all", major, environment, folder) for major in majors]


def run_suite(file: str, sdk: str, major: str, environment: dict[str, str], folder: Path) -> Run:
    """Run one file of the suite by pytest, under the interpreter of that major."""
    report = folder / f"{sdk}-{major}.xml"
    command = [
        str(PYTHONS[major]), "-m", "pytest", "-c", str(SUITE / "pytest.ini"), "--rootdir", str(SUITE),
        "--confcutdir", str(SUITE), f"--junit-xml={report}", str(SUITE / file),
    ]  # fmt: skip
    clean = {name: value for name, value in os.environ.items() if not name.startswith(_LEFT_OUT)}
    own = {
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "SSL_CERT_FILE": str(_one_authority(folder)),
    }
    done = subprocess.run(
        command,
        env={**clean, **environment, **own},
        capture_output=True,
        text=True,
        timeout=SUITE_LIMIT_S,
        check=False,
        cwd=SUITE,
    )
    assert report.exists(), f"{file} under the {major} majors did not run:\n{done.stdout}\n{done.stderr}"
    versions = ", ".join(_version(major, package) for package in _packages(sdk))
    return Run(sdk, major, versions, *_read(report))


def _one_authority(folder: Path) -> Path:
    """A file with one certificate. Each new client reads them all, 40 ms for the usual 140, and calls by HTTP."""
    file = folder / "authority.pem"
    last_line = "-----END CERTIFICATE-----\n"
    file.write_text(Path(certifi.where()).read_text(encoding="utf-8").partition(last_line)[0] + last_line)
    return file


#: What a developer may have set for the SDKs, or for a platform of theirs, or for an outer pytest.
_LEFT_OUT = ("UNDERLAY_", "OPENAI_", "ANTHROPIC_", "GOOGLE_", "GEMINI_", "PYTEST_", "HTTP_PROXY", "HTTPS_PROXY",
             "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")  # fmt: skip


def _packages(sdk: str) -> list[str]:
    return list(SDKS.values()) if sdk == "all" else [SDKS[sdk]]


def _version(major: str, package: str) -> str:
    command = [str(PYTHONS[major]), "-c", f"import importlib.metadata as m; print(m.version('{package}'))"]
    return f"{package} {subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()}"


def _read(report: Path) -> tuple[dict[tuple[str, str], str], tuple[str, ...]]:
    outcomes: dict[tuple[str, str], str] = {}
    failures = []
    for case in ET.parse(report).iter("testcase"):
        name = case.get("name", "")
        match = re.fullmatch(r"(\w+)\[(.*)\]", name)
        if match is None:  # the file could not even be collected
            failures.append(f"{name}: {_told(case)}")
            continue
        key = match[1], "async" if "async" in match[2].split("-") else "sync"
        broken = case.find("failure") is not None or case.find("error") is not None
        outcome = BAD if broken else NOT_APPLICABLE if case.find("skipped") is not None else GOOD
        outcomes[key] = max(outcomes.get(key, NOT_APPLICABLE), outcome, key=_WORSE.index)
        if broken:
            failures.append(f"{name}: {_told(case)}")
    return outcomes, tuple(failures)


def _told(case: ET.Element) -> str:
    return "\n".join(child.text or child.get("message", "") for child in case if child.tag in ("failure", "error"))
