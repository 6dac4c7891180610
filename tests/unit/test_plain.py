"""Text of strangers, marked so that Markdown and Plotly read it so; tests/browser has what a browser makes of it."""

from __future__ import annotations

import pytest

from dashboard.words.plain import plain, plain_label


@pytest.mark.parametrize(("written", "marked"), [
    ("three words, 2.5 bits", "three words, 2.5 bits"),
    ("![x](http://h/a.png)", "!\\[x\\](http:\u2060//h/a.png)"),
    ("<img src=x>", "\\<img src=x>"),
    ("$x^2$ and `code`", "\\$x^2\\$ and \\`code\\`"),
    ("a_b_c *d*", "a_b_c \\*d\\*"),
    (":material/bug_report: :red[x] :tada:", ":\u2060material/bug_report: :\u2060red\\[x\\] :\u2060tada:"),
    ("__init__.py _e_", "\\_\\_init\\_\\_.py \\_e\\_"),
    ("www.h.org me@h.org", "www\u2060.h.org me@\u2060h.org"),
    ("&lt; a -> b", "\\&lt; a -\u2060> b"),
    ("# a\n\n- b", "\\# a - b"),
    ("1. one", "1\\. one"),
    ("> said", "\\> said"),
    ("\\[x\\]", "\\\\\\[x\\\\\\]"),
])  # fmt: skip
def test_marks(written: str, marked: str):
    assert plain(written) == marked


def test_whatever_is_marked_reads_as_before():
    written = "![x](http://h/a.png) <b>$y$</b> www.h.org :red[z]"
    shown = plain(written).replace("\u2060", "")
    for mark in "\\`*_[]<$~&":
        shown = shown.replace(f"\\{mark}", mark)
    assert shown == written and plain(3.5) == "3.5"


def test_labels_of_charts():
    assert plain_label("<a href='http://h'>x</a> & %{x}") == "&lt;a href='http://h'&gt;x&lt;/a&gt; &amp; %\u2060{x}"
    assert plain_label("colour") == "colour"
