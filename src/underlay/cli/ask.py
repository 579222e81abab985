"""``underlay ask``: one question, its answer as it is made, and its journey."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from underlay.cli import _client, _says, _target
from underlay.cli._options import json_option, place_options
from underlay.cli._says import USAGE, Failure
from underlay.cli._target import Target, target
from underlay.live import locate

STREAM_TIMEOUT_S = 600.0
JOURNEY_WAIT_S = 1.5
ENERGY_WAIT_S = 10.0
STOP_TIMEOUT_S = 15.0


@click.command()
@click.argument("question", required=False)
@click.option("--model", help="Which model.  [default: the platform's first]")
@click.option("--system", help="What the model is told before the question.")
@click.option("--max-tokens", type=click.IntRange(1), help="Longest answer, in tokens.  [default: the model's]")
@click.option("--temperature", type=click.FloatRange(0, 2), help="0 is sober, 2 is wild.  [default: the model's]")
@click.option("--key", help="The key.  [default: this machine's local key; env: UNDERLAY_KEY]")
@click.option("--url", help="A platform's address.  [default: the one that runs here; env: UNDERLAY_URL]")
@click.option("--keep", is_flag=True, help="Leave the platform running if it was started for this question.")
@place_options
@json_option
def command(
    question: str | None,
    model: str | None,
    system: str | None,
    max_tokens: int | None,
    temperature: float | None,
    key: str | None,
    url: str | None,
    keep: bool,
    config: Path | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Ask one question and show what became of it.

    Uses the platform that runs here, or starts one for the length of the question. The answer comes as it is
    made, then the journey: which steps it took, how long each lasted, and why. QUESTION may be - or come
    through a pipe.

    \b
    Examples:
      underlay ask "What is the capital of France?"
      underlay ask --max-tokens 50 --temperature 0 "Name three rivers."
      cat letter.txt | underlay ask --system "Summarise." --json
    """  # noqa: D301  # click's mark for text that is not to be wrapped
    asked = _question(question)
    folder = _target.data_dir(data_dir, config, os.environ)
    with contextlib.ExitStack() as stack:
        to = target(url, key, folder)
        started = to is None
        if to is None:
            to = stack.enter_context(_platform(folder, config, key, keep=keep))
        body = _body(to, asked, model, system, max_tokens, temperature)
        answer = _Answer(to)
        for text in answer.stream(body):
            if not as_json:
                sys.stdout.write(_says.harmless(text) if sys.stdout.isatty() else text)
                sys.stdout.flush()
        # One that was started for this has metered nothing before, so it knows no joules until they are settled.
        journey = answer.journey(settled=as_json or started)
    if as_json:
        _says.result_json("ask", answer.fields(journey))
        return
    _says.result()
    if journey is not None:
        from underlay.cli.journey import waterfall

        _says.result(f"\n{waterfall(journey)}")


def _question(question: str | None) -> str:
    if question in {None, "-"} and not (question is None and sys.stdin.isatty()):
        question = sys.stdin.read()
    if question is None or not question.strip():
        raise Failure("usage", "no question", 'underlay ask "What is the capital of France?"', exit_code=USAGE)
    return question


def _body(
    to: Target,
    question: str,
    model: str | None,
    system: str | None,
    max_tokens: int | None,
    temperature: float | None,
) -> dict[str, Any]:
    messages = [{"role": "system", "content": system}] if system else []
    wishes = {"max_tokens": max_tokens, "temperature": temperature}
    return {
        "model": model or _first_model(to),
        "messages": [*messages, {"role": "user", "content": question}],
        "stream": True,
        "stream_options": {"include_usage": True},
        **{name: wish for name, wish in wishes.items() if wish is not None},
    }


def _first_model(to: Target) -> str:
    models = _client.get(to.public_url, "/v1/models", key=to.key).get("data") or []
    if not models:
        raise Failure("no_models", f"{to.public_url} serves no model that this key may use")
    return str(models[0]["id"])


class _Answer:
    """An answer while it arrives, and what is known of it afterwards."""

    def __init__(self, to: Target) -> None:
        self._to = to
        self._text: list[str] = []
        self._request_id = ""
        self._model = ""
        self._usage: dict[str, Any] | None = None
        self._cost: dict[str, Any] | None = None
        self._finish: str | None = None

    def stream(self, body: dict[str, Any]) -> Iterator[str]:
        """The answer's text, as it is made."""
        with _client.call(
            self._to.public_url, "/v1/chat/completions", key=self._to.key, body=body, timeout_s=STREAM_TIMEOUT_S
        ) as reply:
            _client.check(reply)
            self._request_id = reply.headers.get("x-request-id", "")
            for line in reply.lines():
                if not line.startswith("data:"):
                    continue
                data = line[5:].strip()
                if data == "[DONE]":
                    return
                yield from self._heard(json.loads(data))
        raise Failure("cut_off", "the answer broke off before its end", exit_code=_says.UNREACHABLE)

    def _heard(self, chunk: dict[str, Any]) -> Iterator[str]:
        if "error" in chunk:
            raise _client.failure_in(chunk)
        self._model = chunk.get("model") or self._model
        self._usage = chunk.get("usage") or self._usage
        self._cost = chunk.get("x_cost") or self._cost
        for choice in chunk.get("choices") or []:
            self._finish = choice.get("finish_reason") or self._finish
            text = (choice.get("delta") or {}).get("content")
            if text:
                self._text.append(text)
                yield text

    def journey(self, *, settled: bool) -> dict[str, Any] | None:
        """The journey, which is told a moment after the answer ends; ``None`` if nobody tells it.

        With ``settled`` it waits for the joules too, where there are any: for the meters' next window.
        """
        if self._to.console_url is None or not self._request_id:
            return None
        began_s = time.monotonic()
        until_s = began_s + JOURNEY_WAIT_S
        while True:
            try:
                found = _client.get(
                    self._to.console_url, f"/api/journeys/{self._request_id}", key=self._to.key, timeout_s=3
                )
            except Failure as failure:
                if failure.exit_code != _says.NOT_FOUND or time.monotonic() > until_s:
                    return None
            else:
                # A journey that is still being written has no outcome yet.
                late = time.monotonic() > until_s
                if late or (found.get("outcome") and not settled):
                    return dict(found)
                energy = found.get("energy")
                if found.get("outcome") and (energy is None or energy["status"] == "settled"):
                    return dict(found)
                until_s = max(until_s, began_s + ENERGY_WAIT_S)
            time.sleep(0.02)

    def fields(self, journey: dict[str, Any] | None) -> dict[str, Any]:
        """Everything, for programs."""
        return {
            "answer": "".join(self._text),
            "request_id": self._request_id,
            "model": self._model,
            "finish_reason": self._finish,
            "usage": self._usage,
            "cost": self._cost,
            "energy": None if journey is None else journey.get("energy"),
            "journey": journey,
        }


@contextlib.contextmanager
def _platform(folder: Path, config: Path | None, key: str | None, *, keep: bool) -> Iterator[Target]:
    """A platform for the length of a ``with`` block, or longer if it is to be kept."""
    _says.progress("no platform runs here: starting one for this question (this takes a few seconds)")
    child = _start(folder, config, keep=keep)
    try:
        said = _announced(child, folder, keep=keep)
        yield Target(said["public_url"], said["console_url"], key or said["key"])
    except BaseException:
        _stop(child)
        raise
    if keep:
        _says.progress(f"the platform goes on running as process {child.pid}; kill {child.pid} stops it")
        _let_go(child)
        return
    _stop(child)
    _says.progress("the platform was stopped; 'underlay up' keeps one running, and answers start at once")


def _start(folder: Path, config: Path | None, *, keep: bool) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-m", "underlay", "up", "--json", "--data-dir", str(folder)]
    if config is not None:
        arguments += ["--config", str(config)]
    if not keep:
        # Nobody else needs to find it, so it takes no usual port, and it ends if this process does.
        arguments += ["--port", "0", "--console-port", "0", "--replicas", "1", "--until-stdin-closes"]
    log = _log_path(folder)
    with contextlib.ExitStack() as stack:
        return subprocess.Popen(  # noqa: S603  # this very program
            arguments,
            stdin=subprocess.DEVNULL if keep else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stack.enter_context(log.open("w", encoding="utf-8")) if keep else None,
            env={"UNDERLAY_LOG__LEVEL": "error", **os.environ},
            start_new_session=keep,
            text=True,
        )


def _log_path(folder: Path) -> Path:
    return locate.prepare(folder) / "up.log"


def _announced(child: subprocess.Popen[str], folder: Path, *, keep: bool) -> dict[str, Any]:
    assert child.stdout is not None
    line = child.stdout.readline()
    if line:
        return dict(json.loads(line))
    code = child.wait()
    raise Failure(
        "not_started",
        "the platform did not start" + (f"; {_log_path(folder)} says why" if keep else ""),
        "underlay doctor",
        exit_code=code if code in {_says.FAILED, _says.INVALID} else _says.FAILED,
    )


def _stop(child: subprocess.Popen[str]) -> None:
    child.send_signal(signal.SIGTERM)
    try:
        child.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    _let_go(child)


def _let_go(child: subprocess.Popen[str]) -> None:
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    # A child that goes on is not waited for, on purpose.
    if child.returncode is None:
        child.returncode = 0
