"""The pages in a real Chromium: without scripts, by keyboard, in light and dark, on a phone, with enough contrast.

Screenshots of every page are kept in build/pages, for people to look at.
"""

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.web.managed import HTTPS_NAME, PASSWORD, USER, Managed
from tests.web.populated import populated
from tests.web.several import NAMES as NAMES_OF_MEMBERS
from tests.web.several import several

SHOTS: Final = Path(__file__).parents[2] / "build" / "pages"
PAGES: Final = {
    "overview": "/",
    "listeners": "/listeners",
    "listener": "/listeners/public?address=192.0.2.77&host=",
    "destinations": "/destinations?q=domain-1",
    "domain": "/destinations?domain=user@domain-7.example",
    "certificates": "/certificates",
    "certificate": "/certificates/public",
    "authorities": "/authorities",
    "authority": "/authorities/own",
    "messages": "/messages",
    "queue": "/queue",
    "alerts": "/alerts",
    "missing": "/nowhere",
}
SIZES: Final = {"light": (1360, 900), "dark": (1360, 900), "phone": (390, 844)}
CONTRASTS: Final = (Path(__file__).parent / "contrasts.js").read_text()
"""Gives [what, its contrast, what it must be] of every text and every border and bar that can be seen."""
NAMES: Final = """() => [...document.querySelectorAll("a, button, input:not([type=hidden]), select, img, svg")]
  .filter((one) => !(one.innerText || one.ariaLabel || one.labels?.length || one.hasAttribute("alt")))
  .map((one) => one.outerHTML)"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Generator[Managed]:
    with populated(tmp_path_factory.mktemp("site"), many=120) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as driver:
        found = driver.chromium.launch(
            executable_path="/usr/bin/chromium",
            args=["--no-sandbox", "--disable-gpu", f"--host-resolver-rules=MAP {HTTPS_NAME} 127.0.0.1"],
        )
        yield found
        found.close()


def opened(browser: Browser, site: Managed, look: str, **more: Any) -> BrowserContext:
    """A window of this size and colour, in which somebody has signed in."""
    width, height = SIZES[look]
    context = browser.new_context(
        base_url=f"https://{HTTPS_NAME}:{site.port}",
        ignore_https_errors=True,
        color_scheme="dark" if look == "dark" else "light",
        viewport={"width": width, "height": height},
        has_touch=look == "phone",
        **more,
    )
    context.set_default_timeout(90_000)
    page = context.new_page()
    page.goto("/listeners")
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"sign-in-{look}.png")
    page.fill("input[name=user]", USER)
    page.fill("input[name=password]", PASSWORD)
    page.click("button")
    page.wait_for_url("**/listeners")  # where one wanted to go
    return context


def looked_at(page: Page, name: str, look: str) -> None:
    """Keep a screenshot of the page, and see that all on it can be read, has a name, and fits."""
    page.screenshot(path=SHOTS / f"{name}-{look}.png", full_page=True)
    low = [one for one in page.evaluate(CONTRASTS) if one[1] < one[2]]
    assert not low, (name, low)
    assert page.evaluate(NAMES) == [], name
    wide = page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, f"{name} is {wide} pixels too wide"


def test_pages_of_several_members_fit_too(browser: Browser, tmp_path: Path) -> None:
    with several(tmp_path) as gateway:
        gateway.send(0, "one@sender.example", "x@a.example")
        gateway.send(1, "two@sender.example", "y@b.example")
        gateway.publish(*NAMES_OF_MEMBERS)  # one of them is not there
        for look in SIZES:
            context = opened(browser, gateway.first, look)
            page = context.pages[0]
            for name, path in (
                ("overview", "/"),
                ("queue", "/queue"),
                ("messages", "/messages?from=@sender.example"),
            ):
                page.goto(path)
                page.get_by_text("could not be read").first.wait_for()
                looked_at(page, f"several-{name}", look)
            context.close()


@pytest.mark.parametrize("look", SIZES)
def test_every_page_can_be_read_and_fits(browser: Browser, site: Managed, look: str) -> None:
    context = opened(browser, site, look)
    page = context.pages[0]
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    for name, path in PAGES.items():
        answer = page.goto(path)
        assert answer is not None
        assert answer.status == (404 if name == "missing" else 200)
        looked_at(page, name, look)
    page.goto("/sign-in")
    context.clear_cookies()
    page.goto("/sign-in")
    assert not [one for one in page.evaluate(CONTRASTS) if one[1] < one[2]]
    context.close()
    # Nothing was blocked by our own policy, and nothing of a stranger's ran.
    assert [one for one in problems if "404" not in one] == []


def test_everything_works_without_scripts_and_by_keyboard(browser: Browser, site: Managed) -> None:
    context = opened(browser, site, "light", java_script_enabled=False)
    page = context.pages[0]
    page.goto("/destinations")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # past the navigation
    page.wait_for_url("**#content")
    _type_into(page, "Recipient domain", "user@domain-7.example")
    page.wait_for_url("**/destinations?domain=*")
    assert "control-7" in page.content()
    page.get_by_role("button", name="Connect and see").focus()
    page.keyboard.press("Enter")
    page.get_by_text("not delivered, it waits and is tried again").first.wait_for()
    page.screenshot(path=SHOTS / "check-light.png", full_page=True)
    page.get_by_role("button", name="Sign out").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/sign-in")
    page.goto("/")
    assert "/sign-in?next=" in page.url
    context.close()


def _type_into(page: Page, label: str, text: str) -> None:
    """Reach a field by Tab alone, and send its form with Enter."""
    field = page.get_by_label(label)
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.locator("*:focus").count() and page.locator("*:focus").get_attribute(
            "name"
        ) == field.get_attribute("name"):
            page.keyboard.type(text)
            page.keyboard.press("Enter")
            return
    raise AssertionError(f"{label} cannot be reached by keyboard")
