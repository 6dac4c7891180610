"""One report of every figure that the READMEs name: `python -m tests.benchmarks [NAME …] [--out FILE] [--list]`.

The commands are those that stand in the READMEs, so what is measured here is what they say. Each runs in a process of
its own, one after the other; what it printed goes into the report with the seconds it took, below the machine and the
versions of what matters. A benchmark that fails is reported as such, and the others go on. All of them take some hours
and tens of GB of disk; names (`allocation interactive`) choose. Options that name other environments
(`--auto-round PYTHON`) are left out.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shlex
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMMAND = re.compile(r"`python (?:-m tests\.benchmarks\.|tests/benchmarks/)(\w+)(?:\.py)?([^`]*)`")
PACKAGES = ("torch", "transformers", "numpy", "scipy", "highspy", "streamlit", "plotly", "safetensors")


def commands() -> dict[str, list[str]]:
    """Benchmark → its different arguments, as the READMEs have them; those that none names with no arguments."""
    found: dict[str, list[str]] = {
        path.stem: [] for path in sorted(Path(__file__).parent.glob("*.py")) if "def main(" in path.read_text()
    }
    found.pop("__main__")
    for readme in sorted(ROOT.rglob("README.md")):
        if not readme.is_relative_to(ROOT / ".venv"):
            for name, told in COMMAND.findall(readme.read_text(encoding="utf-8")):
                arguments = " ".join(re.sub(r"--[\w-]+ PYTHON|\[[^\]]*\]", "", told).split())
                if arguments not in found.setdefault(name, []):
                    found[name].append(arguments)
    return {name: told or [""] for name, told in found.items()}


def machine() -> str:
    """The table's head: what it ran on."""
    known = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    cpu = re.search(r"model name\s*: (.*)", known)
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT)
    return (
        f"{cpu[1] if cpu else platform.processor()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the "
        f"start; {platform.system()}, Python {platform.python_version()}, {versions}; "
        f"commit {commit.stdout.strip() or 'unknown'}"
    )


def main() -> None:
    """Run what was asked for and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = commands()
    parser.add_argument("names", nargs="*", metavar="NAME", help="benchmarks; default: all")
    parser.add_argument("--out", type=Path, default=Path("benchmarks.md"))
    parser.add_argument("--list", action="store_true", help="say which commands would run")
    asked = parser.parse_args()
    if unknown := set(asked.names) - set(every):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(every)}")
    chosen = [(name, told) for name in asked.names or every for told in every[name]]
    if asked.list:
        print("\n".join(f"python -m tests.benchmarks.{name} {told}".rstrip() for name, told in chosen))
        return
    parts = [f"# Benchmarks\n\n{machine()}\n"]
    for name, told in chosen:
        begun = time.monotonic()
        command = [sys.executable, "-m", f"tests.benchmarks.{name}", *shlex.split(told)]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        ended = f"{time.monotonic() - begun:.0f} s" + (f", FAILED with {done.returncode}" if done.returncode else "")
        parts.append(f"## `python -m tests.benchmarks.{name} {told}`".replace(" `", "`") + f" ({ended})\n\n")
        parts.append(f"```text\n{done.stdout.strip()}\n```\n")
        asked.out.write_text("\n".join(parts), encoding="utf-8")
        print(f"{name} {told}: {ended}", flush=True)
    print(f"The report is in {asked.out}.")


if __name__ == "__main__":
    main()
