"""A platform that is not there: says over real sockets what the command line wants to hear."""

import contextlib
import json
import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from underlay.live import keyring, locate

KEY = "ul_" + "0" * 43 + keyring._checksum("0" * 43)
REQUEST_ID = "req_7Gk2abc"

JOURNEY = {
    "id": REQUEST_ID,
    "at_s": 1_700_000_000.0,
    "dialect": "openai",
    "operation": "chat",
    "model": "m",
    "tenant": "local",
    "key_id": "key_1",
    "outcome": "finished",
    "status": 200,
    "usage": {"prompt_tokens": 12, "cached_tokens": 4, "completion_tokens": 3},
    "money_usd": "0.0000012",
    "duration_ms": 100.0,
    "ttft_ms": 40.0,
    "attempts": 1,
    "hops": [
        {
            "name": "identity",
            "start_ms": 0.0,
            "duration_ms": 0.2,
            "who": "key_1",
            "why": "its key is live",
            "tokens": None,
        },
        {
            "name": "routing",
            "start_ms": 0.2,
            "duration_ms": 0.1,
            "who": "",
            "why": "r1: least loaded of 2",
            "tokens": None,
        },
        {"name": "engine", "start_ms": 0.3, "duration_ms": 99.7, "who": "r1", "why": "", "tokens": 3},
    ],
    "trace_id": "",
    "reason": "",
    "ignored": ["seed"],
}
PLATFORM = {
    "version": "0.1.0",
    "pid": 77,
    "uptime_s": 3725.0,
    "open_requests": 1,
    "waiting": 0,
    "ready": True,
    "models": ["m"],
    "totals": {},
}
REPLICA = {
    "name": "r1",
    "model": "m",
    "state": "ready",
    "engine": "llamacpp",
    "address": "http://127.0.0.1:9",
    "pid": 78,
    "slots": 4,
    "load": 1,
    "restarts": 0,
    "served": 5,
    "resident_mb": 301.4,
    "uptime_s": 30.0,
    "why": "answers probes",
    "gauges": {},
}


def frames(*texts, ending=True):
    def frame(value):
        return b"data: " + json.dumps(value).encode() + b"\n\n"

    for text in texts:
        yield frame({"model": "m", "choices": [{"index": 0, "delta": {"content": text}}], "usage": None})
    if ending:
        yield frame({"model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        usage = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}
        yield frame({"model": "m", "choices": [], "usage": usage, "x_cost": {"usd": "0.0000012"}})
        yield b"data: [DONE]\n\n"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, value, status=200):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def allowed(self):
        if self.headers.get("authorization") == f"Bearer {KEY}":
            return True
        self.reply({"error": {"message": "this key is unknown", "code": "invalid_api_key"}}, 401)
        return False

    def drain(self, asked):
        if asked["replica"] == REPLICA["name"]:
            self.reply(REPLICA | {"state": self.server.states.pop(0)})
        else:
            self.reply({"error": {"message": "there is no such replica", "code": "not_found"}}, 404)

    def do_GET(self):
        url = self.server.url
        if not self.allowed():
            return
        if self.path == "/v1/models":
            self.reply({"object": "list", "data": [{"id": "m"}]})
        elif self.path == "/api/platform":
            self.reply(PLATFORM | {"public_url": url, "console_url": url})
        elif self.path == "/api/replicas":
            self.reply([REPLICA | {"state": self.server.states.pop(0)}])
        elif self.path.startswith("/api/journeys?"):
            self.reply([JOURNEY])
        elif self.path == f"/api/journeys/{REQUEST_ID}" and self.server.ready_after <= 0:
            self.reply(JOURNEY)
        else:
            self.server.ready_after -= 1
            self.reply({"error": {"message": "no such journey", "code": "not_found"}}, 404)

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append(asked)
        if not self.allowed():
            return
        if self.path == "/api/replicas/drain":
            self.drain(asked)
            return
        self.send_response(200)
        self.send_header("x-request-id", REQUEST_ID)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for part in self.server.answer:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        if not self.server.cut:
            self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True


@contextlib.contextmanager
def platform(data_dir, answer=None):
    """Serve in a thread, found by its run file."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    server.answer = list(frames("Par", "is.")) if answer is None else answer
    server.asked, server.ready_after, server.cut = [], 1, False
    server.states = ["ready"] * 100
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    if data_dir is not None:
        keyring.keep_local(data_dir, KEY)
        locate.write(data_dir, locate.RunFile.of_this_process(server.url, server.url, "0.1.0", 1.0))
    try:
        yield server
    finally:
        if data_dir is not None:
            locate.remove(data_dir)
        server.shutdown()
        thread.join()
        server.server_close()


def stand_in_for_up():
    """As ``underlay up --json --until-stdin-closes``: announce, then serve until told to stop."""
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    with platform(None) as server:
        said = {"public_url": server.url, "console_url": server.url, "key": KEY, "pid": os.getpid()}
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()
        stopped.wait(30)


if __name__ == "__main__":
    if "--fail" in sys.argv:
        sys.exit(5)
    stand_in_for_up()
