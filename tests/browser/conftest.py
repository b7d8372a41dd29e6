"""A real browser on the real product.

The server is a process of its own with its own data: no test here needs the ORM of this one. Playwright's synchronous
API leaves an event loop running in its thread, in which Django refuses the ORM and pytest-asyncio can't start another;
so the browser and every test of this folder run in one thread beside the main one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Error, Page, Playwright, sync_playwright

from tests.browser import chromium
from tests.people import PASSWORD
from tests.server import Server, running

PageOf = Callable[[str], Page]


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs the test in the browser's thread."""
    if "browser_thread" not in pyfuncitem.fixturenames:
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    thread = pyfuncitem.funcargs["browser_thread"]
    assert isinstance(thread, Executor)
    thread.submit(pyfuncitem.obj, **arguments).result()
    return True


@pytest.fixture(scope="session")
def browser_thread() -> Iterator[Executor]:
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="browser") as thread:
        yield thread


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Started once for all browser tests, with the sample data and the demo accounts."""
    with running(tmp_path_factory.mktemp("server"), DJANGO_SETTINGS_MODULE="tests.settings") as server:
        yield server


@pytest.fixture(scope="session")
def dictated_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Also started once; its answers are dictated by the requests."""
    with running(tmp_path_factory.mktemp("dictated"), DJANGO_SETTINGS_MODULE="tests.settings_dictated") as server:
        yield server


@pytest.fixture(scope="session")
def browser(browser_thread: Executor) -> Iterator[Browser]:
    playwright: Playwright = browser_thread.submit(lambda: sync_playwright().start()).result()
    try:
        browser = browser_thread.submit(
            lambda: playwright.chromium.launch(executable_path=chromium.find(), args=chromium.ARGUMENTS)
        ).result()
        yield browser
        browser_thread.submit(browser.close).result()
    finally:
        browser_thread.submit(playwright.stop).result()


@pytest.fixture
def problems() -> Iterator[list[str]]:
    """What the pages of this test wrote to the console as errors, and exceptions that nobody caught: none at its end.

    A test that provokes one takes it out.
    """
    found: list[str] = []
    yield found
    assert not found, "The page reported:\n" + "\n".join(found)


@pytest.fixture
def page_of(browser: Browser, browser_thread: Executor, server: Server, problems: list[str]) -> Iterator[PageOf]:
    """Gives a signed-in page of a demo account, each in a browser profile of its own."""
    contexts: list[BrowserContext] = []

    def open_page(username: str) -> Page:
        context = browser.new_context(base_url=server.url, accept_downloads=True)
        contexts.append(context)
        page = context.new_page()
        report(page, problems)
        sign_in(page, username)
        return page

    yield open_page
    for context in contexts:
        browser_thread.submit(context.close).result()


def report(page: Page, problems: list[str]) -> None:
    """Adds the page's errors to `problems` as they come."""

    def on_console(message: ConsoleMessage) -> None:
        if message.type == "error":
            problems.append(f"{message.text} ({message.location.get('url', '')})")

    def on_exception(error: Error) -> None:
        problems.append(str(error))

    page.on("console", on_console)
    page.on("pageerror", on_exception)


def sign_in(page: Page, username: str, password: str = PASSWORD) -> None:
    page.goto("/accounts/login/")
    page.locator("input[name=username]").fill(username)
    page.locator("input[name=password]").fill(password)
    page.locator("input[name=password]").press("Enter")
    page.wait_for_url(lambda url: "/accounts/login/" not in url)
