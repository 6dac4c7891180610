"""A chat template is a program that came with a model: before it is run here, it is tried in a process of its own,
whose time and memory are bounded. The sandbox that it runs in keeps it from files, but not from loops."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import lru_cache

from mode_core.models.errors import ModelError

SECONDS, MEGABYTES = 5, 1024
MEMORY_ENDED = 3  # exit code
_QUESTION = [{"type": "image"}, {"type": "text", "text": "?"}]
_TRIAL = f"""
import json, re, sys
try:
    import resource
    resource.setrlimit(resource.RLIMIT_CPU, ({SECONDS}, {SECONDS}))
    resource.setrlimit(resource.RLIMIT_AS, ({MEGABYTES} << 20, {MEGABYTES} << 20))
except ImportError:
    pass
from jinja2.sandbox import ImmutableSandboxedEnvironment
env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
env.filters["tojson"] = lambda value, **how: json.dumps(value)
env.globals |= {{"raise_exception": lambda words: 1 / 0, "strftime_now": lambda form: "now"}}
template, conversations = json.load(sys.stdin)
for turns in conversations:
    try:
        env.from_string(re.sub(r"{{%-?\\s*(end)?generation\\s*-?%}}", "", template)).render(
            messages=turns, add_generation_prompt=True, bos_token="", eos_token="", tools=None)
    except MemoryError:
        sys.exit({MEMORY_ENDED})
    except Exception:  # what it refuses is told where it is really used
        pass
"""


@lru_cache(maxsize=64)
def check_bounds(template: str) -> None:
    """Refuse a chat template that needs too long, or too much memory, to write one question with or without a picture.

    Raises:
        ModelError: says which.
    """
    turns = [[{"role": "user", "content": content}] for content in ("?", _QUESTION[1:], _QUESTION)]
    asked = json.dumps([template, turns]).encode()
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", _TRIAL], input=asked, capture_output=True, timeout=4 * SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        done = None
    if done is None or done.returncode < 0:
        raise ModelError(_refusal(f"more than {SECONDS} seconds"))
    if done.returncode == MEMORY_ENDED:
        raise ModelError(_refusal(f"more than {MEGABYTES} MB of memory"))


def _refusal(much: str) -> str:
    return f"The model's chat template needs {much} to write one question; copy it anew from where it was published."
