"""What a person has set, as session state and in the address bar: the choices, and the place they look at.

`choices()` are the settings that results follow from. The *place* is everything else that a link restores: which
run, bank and expert, which sample, which view; each a short text under its own name in the URL.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import streamlit as st

from dashboard.components import DRAGGING
from dashboard.components.gesture import PAUSE
from dashboard.state.choices import ESTIMATE, PARAMETERS, Choices, from_address, same_estimate, to_address
from dashboard.state.folders import PAGES
from mode_core.json_files import shortened

PLACE = (  # names in the URL beside those of the choices
    *("run", "bank", "expert", "job"),
    *("view", "order", "layers", "width", "tokens", "task_tokens", "find"),  # Experts
    *("step", "kind", "lecture"),  # Learn
    *("look", "sample", "shown", "token"),  # Tokens
    *("section", "metric", "modality", "other", "evidence"),  # Compare
    *("panel",),  # Budget
    *("form", "types", "rest", "imatrix", "weighting"),  # Export
)
MOST_UNDONE = 50
MOST_TOLD = 16  # options that are named where an address names none of them
_KEPT_ON_ANOTHER_RUN = (
    *("job", "view", "order", "layers", "tokens", "task_tokens", "step", "lecture", "look", "shown"),
    *("section", "metric", "modality", "panel", "form"),
)


def restore() -> None:
    """At the start of every script run: a new session takes its choices from the URL; later the state is the
    truth and is written back (a page change clears the address, and while somebody drags, the browser's is old).
    """
    if "choices" not in st.session_state:
        _read_url(st.query_params.to_dict())
    st.session_state["strange"] = {}
    write_url()


def _read_url(parameters: Mapping[str, str]) -> None:
    read, problems = from_address(parameters)
    unread = [name for name in parameters if name not in (*PLACE, *PARAMETERS)]
    problems += [f"The address says {shortened(name)}, which no page reads; left out." for name in unread]
    held = {name: parameters[name] for name in PLACE if name in parameters}
    named = not set(ESTIMATE).isdisjoint(parameters)
    st.session_state.update(choices=read, notes=problems, place=held, named=named, linked=bool(parameters))


def came_by_link() -> bool:
    """Did the address say anything when this session began?"""
    return bool(st.session_state.get("linked"))


def begin_with(recommended: Mapping[str, Any]) -> None:
    """The open run recommends this method, scope and shrinkage: whoever has chosen no others follows, from run to run
    and when a check has found better ones."""
    before, now, start = st.session_state.get("start"), choices(), Choices().changed(**recommended)
    if start == before:
        return
    follows = not st.session_state.get("named") if before is None else same_estimate(now, before)
    st.session_state["start"] = start
    adjust(**recommended if follows else {})


def write_url() -> None:
    """Put every choice that is not the default into the address bar; at the steps of a drag only when it ends, since
    browsers take a limited number of addresses a second.
    """
    if st.session_state.get(DRAGGING):
        return
    wanted = st.session_state["place"] | to_address(choices(), start())
    if st.query_params.to_dict() != wanted:
        st.query_params.from_dict(wanted)


def notes() -> list[str]:
    """Parts of the address that could not be understood, in words: when it was read, and as pages asked for them."""
    return [*st.session_state.get("notes", []), *st.session_state.get("strange", {}).values()]


# --- the choices -------------------------------------------------------------------------------------------


def choices() -> Choices:
    """What is set now."""
    return st.session_state.get("choices", Choices())


def start() -> Choices:
    """What is set where nothing was chosen: the estimate that the open run recommends, all else as in the paper."""
    return st.session_state.get("start", Choices())


def choose(**changes: Any) -> None:
    """Change some choices; the URL follows. Works in callbacks and in fragments."""
    show(choices().changed(**changes))


def show(chosen: Choices) -> None:
    """Take all of these choices in place of the present ones; the URL follows, and `undo` comes back to those."""
    if chosen != (before := choices()):
        _remember(before, chosen)
    st.session_state["choices"] = chosen
    write_url()


def adjust(**changes: Any) -> None:
    """Change what follows from other changes, or from another run: nobody's own setting, so not undone."""
    st.session_state["choices"] = choices().changed(**changes)
    write_url()


def _remember(before: Choices, chosen: Choices) -> None:
    """Keep what was set before; the many steps of one drag count as one, and what they changed is one setting."""
    kept, now = st.session_state.setdefault("set-before", []), time.monotonic()
    changed = before.differs(chosen)
    last = st.session_state.get("set-last", (None, 0.0))
    if not (kept and last[0] == changed and now - last[1] < PAUSE):
        kept.append(before)
        del kept[:-MOST_UNDONE]
    st.session_state["set-last"] = (changed, now)


def undo() -> str | None:
    """Back to what was set before the last change; what came back, in words. None where nothing was changed yet."""
    if not (kept := st.session_state.get("set-before")):
        return None
    before, st.session_state["set-last"] = kept.pop(), (None, 0.0)
    changed = choices().differs(before)
    st.session_state["choices"] = before
    write_url()
    return ", ".join(name.replace("_", " ") for name in changed)


def reset() -> None:
    """Back to the settings that the run began with; the run stays."""
    show(start())


def bind(
    field: str, shown: Callable[[Any], Any] = lambda value: value, meant: Callable[[Any], Any] = lambda value: value
) -> dict[str, Any]:
    """Arguments that tie a widget to one field: `st.slider("Average bits", 2.0, 4.0, **bind("average_bits"))`.

    The widget shows `shown(field)` and sets the field to `meant(widget's value)`; nothing is lost on a page
    change, because the choice, not the widget, is the truth. Give the widget no `value` or `index`.
    """
    key = f"widget:{field}"
    st.session_state[key] = shown(choices().get(field))
    return {"key": key, "on_change": lambda: choose(**{field: meant(st.session_state[key])})}


# --- the place ---------------------------------------------------------------------------------------------


def place(name: str, default: str | None = None) -> str | None:
    """What the URL says under one of the names of `PLACE`; the caller judges whether it makes sense."""
    return st.session_state.get("place", {}).get(name, default)


def put(**changes: str | None) -> None:
    """Set parts of the place (None takes one out); the URL follows.

    Raises:
        ValueError: a name that is not in `PLACE`, which a reload would forget.
    """
    if unknown := set(changes) - set(PLACE):
        raise ValueError(f"{', '.join(sorted(unknown))} is no part of an address; expected some of {PLACE}.")
    held = st.session_state.get("place", {}) | changes
    st.session_state["place"] = {name: value for name, value in held.items() if value is not None}
    write_url()


def bind_place(name: str, options: Sequence[Any], default: Any, key: str | None = None) -> dict[str, Any]:
    """Arguments that tie a widget to one part of the place: `st.selectbox("Sample", ids, **bind_place("sample", ids,
    ids[0]))`. Options are told apart by `str`; what the URL holds and no option matches is told, and the default shown.
    `key` is the widget's (None: one made of the name).
    """
    key = key or f"widget:place:{name}"
    st.session_state[key] = chosen(name, options, default)

    def set_place() -> None:
        value = st.session_state[key]
        put(**{name: None if value is None or value == default else str(value)})

    return {"key": key, "on_change": set_place}


def chosen(name: str, options: Sequence[Any], default: Any) -> Any:
    """The option that the URL names under `name`, else the default; that it names none of them stands in `notes`."""
    if (wanted := place(name)) is None:
        return default
    for option in options:
        if str(option) == wanted:
            return option
    every = [f"{options[0]} to {options[-1]}"] if isinstance(options, range) else [str(one)[:40] for one in options]
    there = f"are {', '.join([each for each in every if each][:MOST_TOLD])}" if any(every) else "is nothing to choose"
    told = f"The address says {name}={shortened(wanted)}, and here {there}; left out."
    strange(name, told)
    return default


def strange(name: str, told: str) -> None:
    """Put into `notes` why a part of the address is left out, until the next run of the script."""
    st.session_state.setdefault("strange", {})[name] = told


def to_run(name: str | None) -> None:
    """Look at another run (None: the bundled one): what belongs to the old one alone leaves the place."""
    held = st.session_state["place"]
    kept = {part: value for part, value in held.items() if part in _KEPT_ON_ANOTHER_RUN}
    st.session_state["place"] = kept | ({"run": name} if name else {})
    write_url()


def watch(job_id: str | None) -> None:
    """Put a job's id into the URL (None takes it out), so that a reload or a second tab finds it again."""
    put(job=job_id or None)


def watched() -> str | None:
    """Id of the job in the URL."""
    return place("job")


def forget_job() -> None:
    """The job in the URL is not known: say so from now on, and take it out."""
    st.session_state.setdefault("notes", []).append(
        f"The address names the job {shortened(watched())}, which this server does not know (any more); left out."
    )
    watch(None)


def wanted_run() -> str | None:
    """Name of the run in the URL; None where the default one is meant."""
    return place("run")


def go(page: str) -> None:
    """Change to another page, `go("budget")`, keeping the address's settings."""
    st.switch_page(str(PAGES / f"{page}.py"), query_params=st.query_params.to_dict())
