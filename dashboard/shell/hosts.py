"""By which names and ports this server may be asked, so that no page of another name can drive it (DNS rebinding)."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass

import psutil
from streamlit import config

GIVEN = "MODE_HOSTS"  # environment variable: further names, "mode.example.com, gpu7:8443"; without a port: any port
_NETLOC = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_](?:[a-z0-9._-]*[a-z0-9_])?)\.?(?::(\d{1,5}))?", re.IGNORECASE)
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_DEFAULT_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}


@dataclass(frozen=True)
class Hosts:
    """This server's own names, whether it listens on every address of the machine, and names given for a proxy."""

    names: frozenset[str]
    everywhere: bool = False
    given: frozenset[tuple[str, int | None]] = frozenset()

    @classmethod
    def of_this_server(cls, environment: Mapping[str, str] = os.environ) -> Hosts:
        """As Streamlit is configured and MODE_HOSTS says.

        Raises:
            SystemExit: an entry of MODE_HOSTS that is no name and no address.
        """
        address = str(config.get_option("server.address") or "0.0.0.0")
        names = {*_LOOPBACK, *filter(None, (config.get_option("browser.serverAddress"),))}
        if everywhere := address in ("0.0.0.0", "::"):
            names |= {socket.gethostname(), "0.0.0.0"}  # the latter is the address that Streamlit prints
        else:
            names.add(f"[{address}]" if ":" in address else address)
        entries = (part.strip() for part in environment.get(GIVEN, "").split(",") if part.strip())
        return cls(frozenset(map(_one_name, names)), everywhere, frozenset(map(_entry, entries)))

    def allow(self, netloc: str, scheme: str, port: int | None) -> bool:
        """May it be asked as `netloc` ("localhost:8501") over this scheme, when it listens on `port`?"""
        if (asked := split(netloc)) is None:
            return False
        host, given_port = asked
        asked_port = given_port or _DEFAULT_PORTS.get(scheme)
        if {(host, None), (host, asked_port)} & self.given:
            return True
        if asked_port not in (port, config.get_option("browser.serverPort")):
            return False
        return host in self.names or (self.everywhere and host in _addresses())


def split(netloc: str) -> tuple[str, int | None] | None:
    """Host in one way of writing, and its port; None for what is no "host" or "host:port"."""
    if (found := _NETLOC.fullmatch(netloc)) is None:
        return None
    return _one_name(found[1]), int(found[2]) if found[2] else None


def loopback(host: str | None) -> bool:
    """Is it a name or address of this machine that nobody else can reach?"""
    if host is None:
        return False
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]").removeprefix("::ffff:")).is_loopback
    except ValueError:
        return False


def _one_name(host: str) -> str:
    host = host.lower().rstrip(".")
    try:
        return f"[{ipaddress.IPv6Address(host.strip('[]'))}]" if ":" in host else host
    except ValueError:
        return host


def _entry(text: str) -> tuple[str, int | None]:
    if (found := split(text)) is None:
        raise SystemExit(f"{GIVEN} holds {text!r}; expected names or addresses, as in mode.example.com, gpu7:8443.")
    return found


def _addresses() -> set[str]:
    """The addresses of this machine as they are now."""
    held = [one.address.partition("%")[0] for every in psutil.net_if_addrs().values() for one in every
            if one.family in (socket.AF_INET, socket.AF_INET6)]  # fmt: skip
    return {_one_name(f"[{address}]" if ":" in address else address) for address in held}
