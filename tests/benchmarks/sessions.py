"""How many people one server carries: `python -m tests.benchmarks.sessions`.

A dashboard on localhost, on the bundled run or on a synthetic one (`--banks 48 --experts 128`), is driven over
websockets by 1, 5, 10, 20 … sessions. A session goes from page to page and from budget to budget, seed fixed. Two ways:

- *at once*: every session asks again as soon as it was answered, which no person does: the most that the server can do;
- *people*: a person looks for five seconds on average (exponential) between two page runs.

The table has the median and the 95th percentile from asking until the page's script has ended and the last message
has come, in milliseconds, how many page runs a second were answered, and the server's processor time for each. The
browser's part is not in it. Nothing here is a test: no number fails.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import connect

from tests.browser.server import running_app
from tests.synthetic_run import synthetic_run

PAGES = ("", "budget", "tokens", "budget", "compare", "", "budget", "learn")
LOOKING_SECONDS = 5.0
CODES = {number for name, number in ForwardMsg.ScriptFinishedStatus.items() if name.startswith("FINISHED")}


@dataclass
class Session:
    """One browser tab without a browser: asks for page runs, and keeps how long each took, in milliseconds."""

    url: str
    run: str | None
    seed: int
    waited: list[float] = field(default_factory=list)

    async def drive(self, seconds: float, looking: float) -> None:
        """Ask for `seconds`, with pauses of `looking` seconds on average."""
        chance, end = random.Random(self.seed), time.monotonic() + seconds
        async with connect(f"ws{self.url[4:]}/_stcore/stream", subprotocols=["streamlit"], max_size=None) as socket:
            await self._run(socket, "", "")  # the first one loads what the session needs
            self.waited.clear()
            while time.monotonic() < end:
                if looking:
                    await asyncio.sleep(chance.expovariate(1 / looking))
                page = PAGES[chance.randrange(len(PAGES))]
                await self._run(socket, page, f"&bits={chance.uniform(2.1, 3.9):.2f}" if page == "budget" else "")

    async def _run(self, socket, page: str, query: str) -> None:
        asked = BackMsg()
        asked.rerun_script.page_name = page
        asked.rerun_script.query_string = (f"run={self.run}" if self.run else "") + query
        asked.rerun_script.context_info.url = f"{self.url}/{page}"
        begun = time.perf_counter()
        await socket.send(asked.SerializeToString())
        async for raw in socket:
            said = ForwardMsg.FromString(raw)
            if said.WhichOneof("type") == "script_finished" and said.script_finished in CODES:
                break
        self.waited.append(1000 * (time.perf_counter() - begun))


async def drive(url: str, run: str | None, people: int, seconds: float, looking: float) -> list[float]:
    """The milliseconds of all page runs of `people` sessions."""
    sessions = [Session(url, run, seed) for seed in range(people)]
    await asyncio.gather(*(one.drive(seconds, looking) for one in sessions))
    return [wait for one in sessions for wait in one.waited]


def server_of(url: str) -> psutil.Process:
    """The process that listens there."""
    port = int(url.rsplit(":", 1)[1])
    return next(
        psutil.Process(child.pid)
        for child in psutil.Process().children(recursive=True)
        if any(one.laddr.port == port for one in child.net_connections(kind="tcp"))
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--banks", type=int, help="of a synthetic run; default: the bundled run")
    parser.add_argument("--experts", type=int, default=128)
    parser.add_argument("--people", type=int, nargs="+", default=[1, 5, 10, 20])
    parser.add_argument("--seconds", type=float, default=20)
    asked = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        if asked.banks:
            synthetic_run(Path(folder) / "large", asked.banks, asked.experts)
        with running_app({"MODE_RUNS": folder}) as url:
            process, run = server_of(url), "large" if asked.banks else None
            asyncio.run(drive(url, run, 2, 5, 0))  # caches of the server, as after its first minute
            print(
                f"{'way':8} {'people':>6} {'median ms':>9} {'p95 ms':>7} {'runs/s':>7} {'CPU ms a run':>12} {'MB':>6}"
            )
            for way, looking in (("at once", 0.0), ("people", LOOKING_SECONDS)):
                for people in asked.people:
                    used, begun = sum(process.cpu_times()[:2]), time.monotonic()
                    waited = asyncio.run(drive(url, run, people, asked.seconds, looking))
                    spent, took = sum(process.cpu_times()[:2]) - used, time.monotonic() - begun
                    print(
                        f"{way:8} {people:6} {np.median(waited):9.0f} {np.percentile(waited, 95):7.0f} "
                        f"{len(waited) / took:7.1f} {1000 * spent / len(waited):12.0f} "
                        f"{process.memory_info().rss / 1e6:6.0f}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
