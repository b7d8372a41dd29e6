"""The page loses its server, and finds it again with nothing lost: sockets that die silently, sleep, restarts."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import APIResponse, Locator, Page, Route, WebSocketRoute, expect

from tests.browser.conftest import PageOf
from tests.browser.examination import ALL_VIEWS, check_accessible
from tests.browser.test_behaviour import forget
from tests.server import Server, running

#: Script: the page has heard that a request of its own is done.
LISTEN = "() => { window.told = new Promise((told) => addEventListener('htmx:afterRequest', told, { once: true })); }"
TEXT = "Before.\nwait\nAfter."


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("reconnect"), DJANGO_SETTINGS_MODULE="tests.settings_dictated") as server:
        yield server


@pytest.fixture(autouse=True)
def gate(server: Server) -> Iterator[Path]:
    """Where it is, answers that wait go on."""
    path = server.folder / "data" / "go"
    path.unlink(missing_ok=True)
    yield path
    path.touch()


def half_way(page: Page) -> Locator:
    """A run that waits in the middle of its answer; and a draft is typed."""
    page.get_by_role("button", name="New chat").click()
    page.wait_for_load_state()
    live(page)
    page.locator("#message").fill(TEXT)
    page.locator("#message").press("Enter")
    expect(page.locator(".prose")).to_contain_text("Before.")
    page.locator("#message").fill("half a thought")
    return page.locator(".run")


def live(page: Page) -> None:
    expect(page.locator("#connection")).to_have_attribute("data-state", "live", timeout=15_000)
    expect(page.locator("#banner")).to_be_hidden()


def lost(page: Page) -> None:
    expect(page.locator("#connection")).to_have_attribute("data-state", "lost", timeout=10_000)


def answered(page: Page, run: Locator) -> None:
    """To the end, each piece once, and the draft is still there."""
    expect(run).to_have_attribute("data-run-status", "succeeded", timeout=15_000)
    assert page.locator(".prose").inner_text().split() == ["Before.", "After."]
    expect(page.locator("#message")).to_have_value("half a thought")


class Line:
    """What is between the page and its server, and can be cut without anybody being told."""

    def __init__(self, page: Page) -> None:
        self.n_opened = 0
        self.is_cut = False
        self.is_refused = False
        self._sockets: list[WebSocketRoute] = []
        page.route_web_socket("**/ws/**", self._open)

    def _open(self, socket: WebSocketRoute) -> None:
        self.n_opened += 1
        if self.is_refused:
            socket.close()
        if self.is_cut or self.is_refused:
            return
        self._sockets.append(socket)
        server = socket.connect_to_server()
        server.on_message(self._unless_cut(socket))

    def refuse(self) -> None:
        """Closes what is open, and what is opened until `is_refused` is taken back."""
        self.is_refused = True
        for socket in self._sockets:
            socket.close()

    def _unless_cut(self, socket: WebSocketRoute) -> Callable[[str | bytes], None]:
        return lambda message: None if self.is_cut else socket.send(message)


@pytest.mark.one_database
@pytest.mark.whole
def test_a_connection_that_dies_silently_is_noticed_and_the_gap_is_filled(page_of: PageOf, gate: Path) -> None:
    page = page_of("alice")
    page.clock.install()
    line = Line(page)
    run = half_way(page)
    line.is_cut = True
    gate.touch()
    # The page's clock goes on by itself, too: what is silent for 40 s is given up.
    page.clock.run_for(32_000)
    live(page)
    line.is_cut = False
    n_before = line.n_opened
    page.clock.run_for(9_000)
    answered(page, run)
    live(page)
    assert line.n_opened == n_before + 1


@pytest.mark.one_database
@pytest.mark.whole
def test_a_computer_that_slept_reconnects_when_it_wakes(page_of: PageOf, gate: Path) -> None:
    page = page_of("alice")
    page.clock.install()
    line = Line(page)
    run = half_way(page)
    line.is_cut = True
    gate.touch()
    n_before = line.n_opened
    line.is_cut = False
    page.clock.fast_forward(30_000)
    answered(page, run)
    assert line.n_opened == n_before + 1


@pytest.mark.one_database
@pytest.mark.whole
def test_a_busy_connection_is_left_alone(page_of: PageOf) -> None:
    page = page_of("alice")
    page.clock.install()
    beats: list[WebSocketRoute] = []

    def opened(socket: WebSocketRoute) -> None:
        socket.connect_to_server()
        beats.append(socket)

    page.route_web_socket("**/ws/**", opened)
    half_way(page)
    n_before = len(beats)
    for _ in range(4):
        page.clock.run_for(15_000)
        beats[-1].send("<!--hb-->")
        page.evaluate("1")
    assert len(beats) == n_before
    live(page)


@pytest.mark.one_database
@pytest.mark.whole
def test_while_the_server_hangs_the_page_says_so_and_keeps_the_draft(
    page_of: PageOf, server: Server, gate: Path, problems: list[str]
) -> None:
    page = page_of("alice")
    page.clock.install()
    run = half_way(page)
    assert server.process is not None
    server.process.send_signal(signal.SIGSTOP)
    try:
        page.clock.run_for(44_000)
        lost(page)
        expect(page.locator("#banner")).to_contain_text(
            "Reconnecting… Your request keeps running and your draft is kept."
        )
        check_accessible(page, views=ALL_VIEWS)
    finally:
        server.process.send_signal(signal.SIGCONT)
    gate.touch()
    # It tries by itself; "Try now" would be gone before it is pressed.
    live(page)
    answered(page, run)
    forget(problems)


def test_a_server_killed_in_mid_answer_and_started_again_finishes_it(
    page_of: PageOf, server: Server, gate: Path, problems: list[str]
) -> None:
    page = page_of("alice")
    run = half_way(page)
    server.kill()
    lost(page)
    expect(page.locator("#banner")).to_be_visible()
    server.start()
    live(page)
    expect(run.locator(".stage[data-status=running]")).to_contain_text("started again (attempt 2)")
    expect(page.locator(".prose")).to_have_text("Before.")
    gate.touch()
    answered(page, run)
    forget(problems)


@pytest.mark.one_database
@pytest.mark.whole
def test_what_the_page_asked_before_its_socket_opened_takes_nothing_back(page_of: PageOf, gate: Path) -> None:
    """Without a socket it asks over HTTP; that answer may come after the new socket has brought what is newer."""
    page = page_of("alice")
    line = Line(page)
    run = half_way(page)
    held: list[tuple[Route, APIResponse]] = []

    def hold(route: Route) -> None:
        held.append((route, route.fetch()))

    page.route(page.url, hold)
    with page.expect_request(page.url):
        line.refuse()
    line.is_refused = False
    live(page)
    gate.touch()
    answered(page, run)
    page.evaluate(LISTEN)
    (route, older), *_ = held
    route.fulfill(response=older)
    page.evaluate("window.told.then(() => 0)")
    answered(page, run)


@pytest.mark.one_database
def test_offline_is_said_and_online_fills_the_gap(page_of: PageOf, gate: Path, problems: list[str]) -> None:
    page = page_of("alice")
    run = half_way(page)
    page.context.set_offline(True)
    lost(page)
    expect(page.locator("#banner")).to_be_visible()
    gate.touch()
    page.context.set_offline(False)
    live(page)
    answered(page, run)
    forget(problems)
