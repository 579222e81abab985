"""The pages in a real Chromium, against real listeners with sample data behind them."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from .listeners import PublicSide, platform
from .sample import CONSOLE_KEY, SampleViews

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: install the package chromium"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def views() -> SampleViews:
    return SampleViews()


@pytest.fixture
def public(views: SampleViews) -> Iterator[PublicSide]:
    with platform(views) as public:
        yield public


class Watch:
    """Everything a page complains about. Failed requests are listed apart: tests provoke some."""

    def __init__(self, page: Page) -> None:
        self.complaints: list[str] = []
        self.refused: list[int] = []
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._on_console)
        page.on("response", lambda response: response.status >= 400 and self.refused.append(response.status))

    def _on_console(self, message: object) -> None:
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            self.complaints.append(message.text)


@pytest.fixture
def open_page(browser: Browser, public: PublicSide) -> Iterator[Callable[..., tuple[Page, Watch]]]:
    """Open pages; whatever the test did, no page may have complained, about its security policy least of all."""
    watches: list[Watch] = []
    contexts = []

    def open_one(path: str = "/", *, key: bool = True, **options: object) -> tuple[Page, Watch]:
        context = browser.new_context(
            **({"viewport": {"width": 1280, "height": 860}, "reduced_motion": "reduce"} | options)
        )
        contexts.append(context)
        page = context.new_page()
        watches.append(Watch(page))
        page.goto(public.views.console + path + (f"#key={CONSOLE_KEY}" if key else ""))
        return page, watches[-1]

    yield open_one
    for context in contexts:
        context.close()
    assert [watch.complaints for watch in watches if watch.complaints] == []


def ask(page: Page, text: str) -> None:
    page.get_by_label("Your message").fill(text)
    page.keyboard.press("Enter")


def test_from_the_printed_address_to_an_answer_and_its_journey(open_page, public):
    page, watch = open_page()
    expect(page.get_by_role("heading", name="Ask something. See everything under it.")).to_be_visible()
    assert page.url == public.views.console + "/", "the key must not stay in the address"
    assert CONSOLE_KEY not in page.evaluate(
        "JSON.stringify([document.cookie, {...localStorage}, {...sessionStorage}])"
    )
    ask(page, "Why is the sky blue?")
    answer = page.get_by_role("article")
    expect(answer).to_contain_text("but our eyes see blue better")
    expect(answer.locator("figure.code")).to_contain_text("scattering = 1 / wavelength**4")
    expect(answer).to_contain_text("<img src=x onerror=alert(1)> stays text.")
    expect(answer.locator("img")).to_have_count(0)
    figures = answer.get_by_label("Figures of this answer")
    for part in ("148 ms", "tok/s", "in 21", "$0.0000194", "measured", "priced"):
        expect(figures).to_contain_text(part)
    expect(page.get_by_role("status")).to_contain_text("Answer finished")
    answer.get_by_role("button", name="Journey").click()
    expect(answer.get_by_role("listitem").filter(has_text="routing")).to_contain_text(
        "160 tokens of this prompt still cached"
    )
    answer.get_by_role("button", name="Table").click()
    expect(answer.get_by_role("row", name="prefill")).to_contain_text("104 ms")
    answer.get_by_role("link", name="Open req_browser1 by itself").click()
    expect(page.get_by_role("heading", name="req_browser1")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("article")).to_contain_text("Why is the sky blue?")
    assert public.asked[0]["model"] == "gemma-3-270m"
    assert set(watch.refused) <= {404}


def test_the_conversation_goes_along_and_can_be_asked_again(open_page, public):
    page, _ = open_page()
    ask(page, "first")
    expect(page.get_by_role("button", name="Regenerate")).to_be_visible()
    ask(page, "second")
    expect(page.get_by_role("button", name="Regenerate")).to_be_visible()
    expect(page.get_by_role("article")).to_have_count(2)
    assert [message["role"] for message in public.asked[1]["messages"]] == ["user", "assistant", "user"]
    page.get_by_role("button", name="Regenerate").click()
    expect(page.get_by_role("button", name="Regenerate")).to_be_visible()
    assert public.asked[2]["messages"] == public.asked[1]["messages"]
    page.get_by_label("Your message").press("ArrowUp")
    expect(page.get_by_label("Your message")).to_have_value("second")
    expect(page.get_by_role("article")).to_have_count(1)
    page.get_by_role("button", name="New conversation").click()
    expect(page.get_by_role("article")).to_have_count(0)


def test_enter_sends_shift_enter_does_not_and_escape_stops_the_engine(open_page, public):
    page, _ = open_page()
    box = page.get_by_label("Your message")
    box.fill("endless")
    box.press("Shift+Enter")
    expect(box).to_have_value("endless\n")
    assert public.asked == []
    box.press("Enter")
    expect(page.locator(".prose")).to_contain_text("word word")
    expect(page.get_by_role("button", name="Stop the answer")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_text("You stopped this answer.")).to_be_visible()
    until = time.monotonic() + 2
    while not public.cancelled and time.monotonic() < until:
        page.wait_for_timeout(20)
    assert public.cancelled == ["req_browser1"]
    expect(page.get_by_role("button", name="Journey")).to_be_visible()


def test_an_expired_page_key_is_renewed_without_a_word(open_page, public):
    page, _ = open_page()
    ask(page, "expired")
    expect(page.locator(".prose")).to_contain_text("The sky is blue")
    assert public.keys == ["ul_session_0", "ul_session_1"]


def test_refusals_say_what_and_when_and_keep_the_request_id(open_page, public):
    page, watch = open_page()
    ask(page, "limit")
    problem = page.get_by_role("alert")
    expect(problem).to_contain_text("A limit of this key is reached")
    expect(problem).to_contain_text("60 requests per minute are spent")
    expect(problem).to_contain_text("req_browser1")
    expect(problem.get_by_role("button", name="Try again in")).to_be_disabled()
    expect(problem.get_by_role("button", name="Try again", exact=True)).to_be_enabled(timeout=20_000)
    ask(page, "full")
    expect(page.get_by_role("alert").last).to_contain_text("not your limit")
    ask(page, "break")
    broken = page.get_by_role("article").last
    expect(broken).to_contain_text("The sky is blue because air scatters")
    expect(broken).to_contain_text("The answer broke off")
    expect(broken).to_contain_text("the engine died")
    assert {429, 503} <= set(watch.refused)


def test_an_unreachable_public_side_is_named(open_page, views):
    page, watch = open_page()
    page.route(f"{views.public}/**", lambda route: route.abort())
    ask(page, "anybody?")
    expect(page.get_by_role("alert")).to_contain_text(f"No answer from {views.public}")
    assert watch.refused == []


def test_without_a_key_the_page_asks_for_one_and_then_goes_where_it_was_going(open_page):
    page, _ = open_page("/journeys?outcome=refused", key=False)
    expect(page.get_by_role("heading", name="Open the console")).to_be_visible()
    page.get_by_label("Console key").fill("ul_wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("does not open the console")
    page.get_by_label("Console key").fill(CONSOLE_KEY)
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="req_02refused")).to_be_visible()
    expect(page.get_by_role("link", name="req_01newest")).to_have_count(0)
    page.reload()
    expect(page.get_by_role("link", name="req_02refused")).to_be_visible()
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", name="Open the console")).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", name="Open the console")).to_be_visible()


def test_journeys_are_listed_filtered_and_walked_by_keyboard(open_page):
    page, _ = open_page("/journeys")
    expect(page.get_by_role("row")).to_have_count(12)
    page.keyboard.press("/")
    page.keyboard.type("research")
    expect(page.get_by_role("row")).to_have_count(2)
    assert page.url.endswith("?q=research")
    page.get_by_label("Filter journeys").fill("")
    page.locator("h1").click()
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("j")
    expect(page.get_by_role("link", name="req_03resumed")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="req_03resumed")).to_be_visible()
    expect(page.locator(".hop")).to_have_count(10)
    expect(page.locator("main")).to_contain_text("resumes from token 41")
    page.locator(".hop").first.focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator(".hop").nth(1)).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("row")).to_have_count(12)


def test_a_journey_that_is_not_there_says_so(open_page):
    page, _ = open_page("/journeys/req_unknown")
    expect(page.get_by_role("alert")).to_contain_text("no such journey")
    expect(page.get_by_role("alert")).to_contain_text("con_")


def test_the_fleet_is_live_and_can_be_held_still(open_page, views):
    page, _ = open_page("/fleet")
    expect(page.get_by_role("row", name="gemma-3-270m-3")).to_contain_text("lost")
    expect(page.get_by_role("row", name="gemma-3-270m-3")).to_contain_text("next try in 8 s")
    expect(page.get_by_role("img", name="3 of 4 slots")).to_be_visible()
    page.get_by_role("button", name="Details of gemma-3-270m-0").click()
    expect(page.locator("main")).to_contain_text("kv used ratio")
    page.get_by_role("button", name="Pause").click()
    views.cards = []
    page.wait_for_timeout(1500)
    expect(page.get_by_role("row", name="gemma-3-270m-3")).to_be_visible()
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_role("heading", name="No engine runs")).to_be_visible()
    expect(page.locator("main")).to_contain_text("underlay doctor")


def test_the_first_run_and_a_platform_that_is_not_ready_are_explained(open_page, views):
    views.cards, views.is_ready, views.reasons = [], False, ["no replica is ready"]
    page, _ = open_page()
    expect(page.get_by_role("heading", name="No model serves chats yet")).to_be_visible()
    expect(page.get_by_label("Your message")).to_be_disabled()
    expect(page.locator(".pulse")).to_contain_text("not ready")
    page.get_by_role("link", name="Fleet").click()
    expect(page.locator("main")).to_contain_text("no replica is ready")


def test_keyboard_places_help_and_the_switch_for_it(open_page):
    page, _ = open_page("/fleet")
    expect(page.get_by_role("heading", name="Fleet", exact=True)).to_be_visible()
    page.keyboard.press("g")
    page.keyboard.press("j")
    expect(page.get_by_role("heading", name="Journeys", exact=True)).to_be_visible()
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Hold live figures still")
    dialog.get_by_label("Single letters are shortcuts").uncheck()
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    page.keyboard.press("?")
    expect(dialog).to_have_count(0)
    page.reload()
    expect(page.get_by_role("heading", name="Journeys", exact=True)).to_be_visible()
    page.keyboard.press("?")
    expect(dialog).to_have_count(0)


def test_the_theme_is_the_systems_until_chosen_and_then_stays(open_page):
    page, _ = open_page(color_scheme="dark")
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    dark = page.evaluate(ground)
    page.get_by_role("button", name="Theme: system").click()
    light = page.evaluate(ground)
    assert light != dark
    page.reload()
    expect(page.get_by_role("button", name="Theme: light")).to_be_visible()
    assert page.evaluate(ground) == light


@pytest.mark.parametrize("path", ["/", "/journeys", "/journeys/req_03resumed", "/fleet"])
def test_nothing_needs_sideways_scrolling_on_the_narrowest_screen(open_page, path):
    page, _ = open_page(path, viewport={"width": 320, "height": 640})
    expect(page.locator("h1")).to_be_visible()
    page.wait_for_timeout(300)
    if path == "/":
        ask(page, "Why is the sky blue?")
        page.get_by_role("button", name="Journey").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 320


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_page_fails_the_accessibility_rules(open_page, theme):
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed"
    )
    page, _ = open_page(color_scheme=theme)

    def check(where: str) -> None:
        page.wait_for_timeout(250)
        found = axe.Axe().run(page).response["violations"]
        assert found == [], where + json.dumps(
            [[v["id"], [n["html"] for n in v["nodes"]][:3], v["nodes"][0]["failureSummary"]] for v in found],
            indent=1,
        )

    expect(page.get_by_role("heading", name="Ask something")).to_be_visible()
    check("welcome")
    ask(page, "Why is the sky blue?")
    page.get_by_role("button", name="Journey").click()
    check("answer")
    page.get_by_role("button", name="Table").click()
    check("table")
    ask(page, "limit")
    expect(page.get_by_role("alert")).to_be_visible()
    check("problem")
    page.get_by_role("link", name="Journeys").click()
    expect(page.get_by_role("table")).to_be_visible()
    check("journeys")
    page.get_by_role("link", name="req_03resumed").click()
    expect(page.locator(".hop").first).to_be_visible()
    check("journey")
    page.get_by_role("link", name="Fleet").click()
    expect(page.get_by_role("table")).to_be_visible()
    check("fleet")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    check("help")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", name="Open the console")).to_be_visible()
    check("login")
