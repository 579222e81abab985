"""A stopped process keeps its connections and says nothing; its streams go on elsewhere within seconds."""

import asyncio
import signal
import time

from tests.live.test_failover import replay_all
from tests.live.wire import DIALECTS, engines, eventually, frames, http, model
from tests.support.platform import running_platform
from tests.support.scripted import words

OPENAI = DIALECTS[0]


class Heard:
    """One stream: all of its bytes, and the longest wait between two pieces of the answer."""

    def __init__(self):
        self.body, self.gap_s = b"", 0.0

    async def listen(self, platform, text):
        reader, writer = await asyncio.open_connection(*platform.address)
        writer.write(http(OPENAI.path(True), OPENAI.body(text), key=platform.key, head="Connection: close\r\n"))
        last_at = time.monotonic()
        while data := await reader.read(65_536):
            self.body += data
            if b"data: " in data:
                now = time.monotonic()
                self.gap_s, last_at = max(self.gap_s, now - last_at), now
        writer.close()

    @property
    def said(self):
        whole = b"".join(line for line in self.body.splitlines(keepends=True) if line.startswith(b"data: "))
        return OPENAI.read(frames(whole))


async def many(platform, count, text, meanwhile):
    heard = [Heard() for _ in range(count)]
    async with asyncio.TaskGroup() as group:
        for number, one in enumerate(heard):
            group.create_task(one.listen(platform, text.replace("TAG", tag(number))))
        await meanwhile()
    return heard


def tag(number):
    return "".join("abcdefghij"[int(digit)] for digit in str(number))


def test_sigstop_of_one_of_three_replicas_under_many_streams(tmp_path):
    """I7: nothing is lost, doubled or foreign; nobody waits for five seconds."""
    with engines(3, slots=16, model="m") as replicas:
        settings = {"models": [model([replica.url for replica in replicas], slots=16)]}
        with running_platform(tmp_path, settings) as platform:
            eventually(lambda: all(row["state"] == "ready" for row in platform.admin("/api/replicas")), 10)
            stopped = replicas[1]

            async def stop_one():
                await asyncio.sleep(0.7)
                assert stopped.busy()
                stopped.process.send_signal(signal.SIGSTOP)

            heard = asyncio.run(many(platform, 21, "[[tokens=60 itl=30 tag=TAG]]", stop_one))
            for number, one in enumerate(heard):
                assert (one.said.error, one.said.finish, one.said.completion_tokens) == (None, "stop", 60)
                assert one.said.text.lstrip() == words(60, tag(number)).lstrip()
            gaps = sorted(one.gap_s for one in heard)
            assert gaps[-1] < 5
            assert gaps[len(gaps) // 2] < 1, "those on other replicas noticed nothing"
            rows = {row["name"]: row for row in platform.admin("/api/replicas")}
            assert "silent" in rows["m/1"]["why"]
            stopped.process.send_signal(signal.SIGCONT)  # back from the dead: its late words are nobody's
            eventually(lambda: platform.admin("/api/replicas")[1]["state"] == "ready", 10)
            eventually(lambda: stopped.busy() == 0)
            platform.wait_idle()
            charges = platform.admin("/api/ledger?group=request")
            assert sorted(row["usage"]["completion_tokens"] for row in charges) == [60] * 21
    replay_all(platform)


def test_a_long_prompt_is_no_silence(tmp_path):
    """An engine that reads for seconds says nothing, but answers: nobody takes its request away."""
    with engines(2, slots=4, model="m") as replicas:
        settings = {"models": [model([replica.url for replica in replicas])]}
        with running_platform(tmp_path, settings) as platform:

            async def nothing():
                pass

            (heard,) = asyncio.run(many(platform, 1, "[[tokens=5 ttft=3000 tag=TAG]]", nothing))
            assert heard.said.text.lstrip() == words(5, "a").lstrip(), heard.body
            assert platform.admin("/api/journeys?limit=1")[0]["attempts"] == 1
