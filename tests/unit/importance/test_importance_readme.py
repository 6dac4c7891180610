"""The README's table of methods is what `METHODS` says."""

from __future__ import annotations

import re
from pathlib import Path

import mode_core.importance
from mode_core.importance import METHODS
from mode_core.importance.methods import NEEDS

README = Path(mode_core.importance.__file__).with_name("README.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| (.+) \| (.+) \| (yes|no) \| (.+) \|$", re.MULTILINE)


def test_the_table_lists_every_method_as_it_is():
    rows = {name: rest for name, *rest in ROW.findall(README)}
    assert set(rows) == set(METHODS)
    for name, (group, formula, needs, comparable, source) in rows.items():
        method = METHODS[name]
        flag = f"`{NEEDS[method.needs].flag.split()[0]}`" if method.needs else "–"
        assert (group, needs) == (method.group, flag), name
        assert comparable == ("yes" if method.comparable else "no"), name
        assert len(formula) > 3 and (source == "–" or len(source) > 5)
        for paper in re.findall(r"arXiv \d{4}\.\d{5}", method.source):
            assert paper in source or name == "frequency" or "MODE" in source, name


def test_names_of_functions_in_the_text_exist():
    from mode_core.prediction import allocation_stability, sufficiency

    for name in ("cost_table", "frequency_intervals", "mopeq_bits"):
        assert f"`{name}" in README and callable(getattr(mode_core.importance, name))
    assert all(f"{function.__name__}`" in README for function in (allocation_stability, sufficiency))
