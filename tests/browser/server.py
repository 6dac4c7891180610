"""The dashboard on a free port of this machine, for as long as a `with` block lasts; and a browser to look at it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
START_SECONDS = 120


def browser_path() -> str | None:
    """The machine's own Chromium or Chrome; None where there is none."""
    return next((found for name in BROWSERS if (found := shutil.which(name))), None)


@contextmanager
def running_app(environment: Mapping[str, str], address: str = "127.0.0.1") -> Iterator[str]:
    """Start the dashboard with these environment variables; yields its address, and ends it afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "dashboard/app.py", "--server.headless", "true"]
    command += ["--server.address", address, "--server.port", str(port), "--server.fileWatcherType", "none"]
    server = subprocess.Popen(
        command, cwd=ROOT, env=os.environ | dict(environment), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        _wait(f"http://127.0.0.1:{port}/_stcore/health", server)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        server.stdout.close()


def _wait(health: str, server: subprocess.Popen) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if server.poll() is not None:
            raise RuntimeError(f"The dashboard ended at once:\n{server.stdout.read().decode()}")
        try:
            with urllib.request.urlopen(health, timeout=2):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)
    raise RuntimeError(f"The dashboard did not answer within {START_SECONDS} s.")


@contextmanager
def chromium() -> Iterator:
    """A headless browser; nothing is downloaded."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=browser_path(), args=["--no-sandbox", "--disable-dev-shm-usage"])
        try:
            yield browser
        finally:
            browser.close()


_AT_REST = """([from]) => {  // the page's script has been over, and everything drawn, for a quarter of a second
  const over = document.querySelector('[data-testid="stApp"][data-test-script-state="notRunning"]')
    && !document.querySelector("[data-testid=stSkeleton]")
    && [...document.querySelectorAll("[data-part=figure]:not([data-updates])")].every((one) => one.clientWidth < 40);
  if (!over || window.restingFrom !== from) { window.restingFrom = from; window.restingSince = performance.now(); }
  return over && performance.now() - window.restingSince > 250;
}"""


def settled(page, seconds: float = 120) -> None:
    """Wait until the script behind the page has ended and everything it drew is there."""
    page.wait_for_function(_AT_REST, arg=[time.monotonic()], timeout=seconds * 1000)
