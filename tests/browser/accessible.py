"""What axe-core finds on a page that keeps somebody from using it, by its rules for WCAG 2.2 A and AA. Nothing is left
out: at this version there is nothing of Streamlit's own that a line in `shell/screen.py` could not mend."""

from __future__ import annotations

from typing import Any

from axe_playwright_python.base import AXE_SCRIPT

TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
GRAVE = ("serious", "critical")
_RUN = "only => axe.run({ resultTypes: ['violations'], runOnly: only }).then((found) => found.violations)"


def violations(page: Any, *rules: str) -> list[str]:
    """Serious and critical ones, one a line: rule, element, why. Of these rules alone where some are named."""
    if page.evaluate("window.axe === undefined"):
        page.evaluate(AXE_SCRIPT)
    only = {"type": "rule", "values": list(rules)} if rules else {"type": "tag", "values": TAGS}
    return [
        f"{one['id']}: {node['html'][:120]} ({(node['any'] or node['all'] or node['none'])[0]['message']})"
        for one in page.evaluate(_RUN, only)
        if one["impact"] in GRAVE
        for node in one["nodes"]
    ]
