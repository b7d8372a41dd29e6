"""axe-core on a page as people see it: wide and narrow, light and dark."""

from __future__ import annotations

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from tests.environment import is_whole

WIDE, PHONE = (1280, 900), (390, 844)
VIEWS = ((WIDE, "light"), (PHONE, "dark"))
ALL_VIEWS = (*VIEWS, (WIDE, "dark"), (PHONE, "light"))


#: Without preloading: it fetches the styles that styles import by a wrong address and adds them against the CSP.
#: Without the elements that are right: they are most of the page.
OPTIONS = {"preload": False, "resultTypes": ["violations"]}


def check_accessible(page: Page, *, views: tuple[tuple[tuple[int, int], str], ...] = VIEWS) -> None:
    """No violation of any impact, and no scrolling sideways.

    But for `make test-long`, axe looks at the first view alone: it takes seconds of a core.
    """
    examined = set()
    for at, ((width, height), scheme) in enumerate(views):
        page.set_viewport_size({"width": width, "height": height})
        # Without motion, because a colour on its way to another one has no contrast yet.
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]  # one of its literals
        where = f"{page.url}, {width} px, {scheme}"
        # A scheme changes colours alone: in the second one of a width nothing else is looked at anew.
        rules = {"runOnly": ["color-contrast", "link-in-text-block"]} if width in examined else {}
        examined.add(width)
        check_fits(page)
        if at and not is_whole():
            continue
        found = Axe().run(page, options={**OPTIONS, **rules}).response["violations"]
        said = [f"{rule['id']} ({rule['impact']}): {rule['nodes'][0]['html'][:200]}" for rule in found]
        assert said == [], f"{where}:\n" + "\n".join(said)


def check_fits(page: Page) -> None:
    overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow <= 0, f"{page.url} is {overflow} px too wide"
