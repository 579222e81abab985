"""The console over the real platform: a person opens the printed address, asks the real model, sees the journey."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright
from tests.support.platform import RunningPlatform, running_platform

from .test_browser import CHROMIUM, FLAGS, Watch

pytestmark = [
    pytest.mark.browser,
    pytest.mark.engine,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: install the package chromium"),
]


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Iterator[RunningPlatform]:
    folder: Path = tmp_path_factory.mktemp("console")
    with running_platform(folder, weights=weights) as platform:
        yield platform


def test_a_question_is_answered_and_its_journey_shown(platform: RunningPlatform) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page()
        watch = Watch(page)
        page.goto(f"{platform.console_url}/#key={platform.key}")
        page.get_by_label("Your message").fill("What is the capital of France?")
        page.keyboard.press("Enter")
        answer = page.get_by_role("article")
        expect(answer).to_contain_text("Paris", timeout=30_000)
        expect(answer.get_by_label("Figures of this answer")).to_contain_text("tok/s", timeout=30_000)
        answer.get_by_role("button", name="Journey").click()
        hops = answer.get_by_role("listitem")
        expect(hops.filter(has_text="routing")).to_contain_text("least pressed")
        expect(hops.filter(has_text="decode")).to_contain_text("by the engine's clock")
        link = answer.get_by_role("link", name=re.compile(r"Open req_\w+ by itself"))
        request_id = re.search(r"req_\w+", link.get_attribute("aria-label") or link.inner_text() or "")
        link.click()
        expect(page.get_by_role("heading", name=re.compile("req_"))).to_be_visible()
        assert watch.complaints == []
        browser.close()
    journeys = platform.admin("/api/journeys")
    asked = [journey for journey in journeys if journey["operation"] == "chat"]
    assert len(asked) == 1
    assert asked[0]["outcome"] == "finished"
    assert asked[0]["tenant"] == "local"
    assert request_id is None or request_id[0] == asked[0]["id"]
    platform.wait_idle()
