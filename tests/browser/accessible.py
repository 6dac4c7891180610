"""What axe-core finds on a page that keeps somebody from using it, by its rules for WCAG 2.2 A and AA, with what can be
opened on it open. No finding is left out: at this version there is nothing of Streamlit's own that a line in
`shell/screen.py` could not mend."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from axe_playwright_python.base import AXE_SCRIPT

from tests.browser.server import settled

TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
GRAVE = ("serious", "critical")
_RUN = """([within, only]) => axe.run(within ?? document, { resultTypes: ["violations"], runOnly: only })
    .then((found) => found.violations)"""
# What opens over the page: where it is opened, by which key, what then is there, and how many of them differ.
_OVER = (
    ("[data-testid=stPopover] button", "Enter", "[data-testid=stPopoverBody]", 9),
    ("[data-testid=stMain] [data-testid=stSelectbox] input", "ArrowDown", "[role=listbox]", 1),
    ("[data-testid=stMain] [data-testid=stMultiSelect] input", "ArrowDown", "[role=listbox]", 1),
    ("[data-testid=stMain] button:has-text('Glossary')", "Enter", "[role=dialog]", 1),
)
_UNFOLD = """() => {  // one of each name: the tables under charts are alike, and none is quickly drawn
  const folds = [...document.querySelectorAll("[data-testid=stExpander] details")];
  const name = (one) => one.firstElementChild.innerText.trim();
  const seen = new Set(folds.filter((one) => one.open).map(name));
  const next = folds.filter((one) => !seen.has(name(one)) && seen.add(name(one)));
  next.forEach((one) => one.firstElementChild.click());
  return next.length;
}"""


def violations(page: Any, *rules: str, within: str | None = None) -> list[str]:
    """Serious and critical ones, one a line: rule, element, why. Of these rules alone where some are named, and of what
    lies in elements that `within` selects."""
    if page.evaluate("window.axe === undefined"):
        page.evaluate(AXE_SCRIPT)
    only = {"type": "rule", "values": list(rules)} if rules else {"type": "tag", "values": TAGS}
    return [
        f"{one['id']}: {node['html'][:120]} ({(node['any'] or node['all'] or node['none'])[0]['message']})"
        for one in page.evaluate(_RUN, [within, only])
        if one["impact"] in GRAVE
        for node in one["nodes"]
    ]


def violations_everywhere(page: Any, *rules: str, unfold: bool = True) -> list[str]:
    """Those of the page with its expanders open (or as it is), and of what opens over it: popovers, menus of choices, a
    dialog."""
    while unfold and page.evaluate(_UNFOLD):
        settled(page)
    return [found for within in opened(page) for found in violations(page, *rules, within=within)]


def opened(page: Any) -> Iterator[str | None]:
    """Open what comes over the page, one after another: None for the page itself, then selectors of what is open."""
    yield None
    for opener, key, body, most in _OVER:
        for place in range(min(most, page.locator(opener).count())):
            button = page.locator(opener).nth(place)
            if not (button.is_visible() and button.is_enabled()):
                continue
            button.focus()
            settled(page)  # a menu closes where the page still scrolls to it
            button.press(key)
            page.locator(body).first.wait_for()
            settled(page)
            yield body
            page.keyboard.press("Escape")
            page.locator(body).first.wait_for(state="detached")
