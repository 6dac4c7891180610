"""The READMEs' tables are what the code's own tables say; names in the text exist."""

from __future__ import annotations

import pytest

import mode_core.importance
from mode_core.prediction import allocation_stability, sufficiency
from tests.documentation import ROOT, TABLES, markdown, written


@pytest.mark.parametrize("name", TABLES)
def test_the_table_is_written_from_the_code(name):
    path = ROOT / TABLES[name][1]
    assert f"<!-- table: {name} -->\n{markdown(name)}<!-- end of table -->" in path.read_text(encoding="utf-8"), (
        "run python -m tests.documentation"
    )
    assert written(path) == path.read_text(encoding="utf-8")


def test_names_of_functions_in_the_text_exist():
    text = (ROOT / "mode_core/importance/README.md").read_text(encoding="utf-8")
    for name in ("cost_table", "frequency_intervals", "recommended"):
        assert f"`{name}" in text and callable(getattr(mode_core.importance, name))
    assert all(f"{function.__name__}`" in text for function in (allocation_stability, sufficiency))
