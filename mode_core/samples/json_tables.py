"""JSON, entry by entry: an array (ShareGPT4V), lines, or objects one after another; told apart by what is in the file.

Only the entry that is being read is in memory. Entries go through Python's own decoder one at a time; a decoder that
keeps the path of every event (ijson does) needs memory in the square of the depth, which a small file can make deadly.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import BinaryIO

from mode_core.samples.images import SampleError
from mode_core.samples.values import Odd
from mode_core.samples.without_samples import foreign

Rows = Iterator[tuple[str, object]]  # (where it stands, an entry or the error of reading it)

BLOCK = 1 << 22  # bytes read at once
MAX_ENTRY = 128_000_000  # characters of one entry
_DIGITS = 400  # of a whole number; Python itself refuses 4,300
_BLANK = " \t\r\n,"
WIDE, WIDE_WORDS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE), "saved as UTF-16; save it as UTF-8."


def _number(text: str) -> object:
    return int(text) if len(text) <= _DIGITS else Odd(f"a number of {len(text):,} digits")


_DECODER = json.JSONDecoder(parse_int=_number, parse_constant=lambda name: Odd(f"{name}, which is no JSON"))


def read_json(name: str, stream: BinaryIO) -> Rows:
    """The entries of a JSON or JSON Lines file; what cannot be read comes as `SampleError`, and the rest goes on where
    it can (after a bad line always, within an array not)."""
    head = stream.read(BLOCK)
    if head.startswith(WIDE):
        yield name, SampleError(WIDE_WORDS)
        return
    stream.seek(len(codecs.BOM_UTF8) if head.startswith(codecs.BOM_UTF8) else 0)
    text = head.removeprefix(codecs.BOM_UTF8).lstrip()
    if text[:1] == b"[":
        yield from ((f"{name}, entry {n}", entry) for n, entry in _values(stream, array=True))
    elif _whole_line(text):
        yield from _lines(name, stream)
    else:
        yield from ((f"{name}, entry {n}", entry) for n, entry in _values(stream, array=False))


def _whole_line(text: bytes) -> bool:
    """Does the text begin with a line that is JSON, or with one that was meant to be (so it does not just open)?"""
    line, ended, _ = text.partition(b"\n")
    try:
        _DECODER.decode(line.decode("utf-8", errors="replace"))
    except (json.JSONDecodeError, RecursionError):
        return bool(ended) and line.strip() != b"{" and not _opens(line)
    return True


def _opens(line: bytes) -> bool:
    """Does an object go on behind this line (printed over several lines), as far as its end tells?"""
    return line.rstrip()[-1:] in (b"{", b"[", b",")


def _lines(name: str, stream: BinaryIO) -> Rows:
    number = 0
    while line := stream.readline(MAX_ENTRY + 1):
        number += 1
        where = f"{name}, line {number}"
        if len(line) > MAX_ENTRY and not line.endswith(b"\n"):
            while (more := stream.readline(BLOCK)) and not more.endswith(b"\n"):
                pass
            yield where, SampleError(f"the line has over {MAX_ENTRY / 1e6:.0f} MB, which is refused.")
        elif line.strip():
            yield where, _decoded(line)


def _decoded(line: bytes) -> object:
    try:
        return _DECODER.decode(line.decode())
    except UnicodeDecodeError as broken:
        return SampleError(f"not readable as UTF-8 text (byte {broken.start}); save it as UTF-8.")
    except RecursionError:
        return SampleError("nested too deeply. Each line is one JSON object.")
    except json.JSONDecodeError as broken:
        return SampleError(f"not valid JSON ({broken}). Each line is one JSON object.")


def _values(stream: BinaryIO, array: bool) -> Iterator[tuple[int, object]]:
    """(number, value) of values one after another, in brackets or not; the last one is an error where it breaks off."""
    text, number = _Text(stream), 0
    try:
        if array:
            text.skip("[")
        while (begin := text.skip(_BLANK)) not in ("", "]"):
            number += 1
            yield number, text.value()
        if array and begin == "]":
            text.at += 1
            begin = text.skip(" \t\r\n")
        if array and begin:
            yield number + 1, SampleError("something follows behind the end of the list; write one list, or lines.")
        elif array and text.closed is False:
            yield number + 1, SampleError("the list is cut off: its closing bracket is missing. Copy the file anew.")
    except SampleError as broken:
        yield number, broken


class _Text:
    """The text of a stream from where it is read on."""

    def __init__(self, stream: BinaryIO):
        self.stream, self.decoder = stream, codecs.getincrementaldecoder("utf-8")()
        self.text, self.at, self.ended, self.closed = "", 0, False, False

    def skip(self, characters: str) -> str:
        """Pass over these characters; the next one, or nothing at the end."""
        while True:
            while self.at < len(self.text):
                if (here := self.text[self.at]) not in characters:
                    self.closed = self.closed or here == "]"
                    return here
                self.at += 1
            if not self._more():
                return ""

    def value(self) -> object:
        """The value that begins here.

        Raises:
            SampleError: it is none, or too long.
        """
        while True:
            try:
                found, end = _DECODER.raw_decode(self.text, self.at)
                if end < len(self.text) or self.ended or isinstance(found, dict | list):
                    self.at = end
                    return found
            except RecursionError:
                raise SampleError("nested too deeply; what follows is not read.") from None
            except json.JSONDecodeError as broken:
                if self.ended:
                    raise SampleError(f"not valid JSON ({broken.msg}); what follows is not read.") from None
            if len(self.text) - self.at > MAX_ENTRY:
                known = foreign([key for key in ("questions", "images", "annotations") if f'"{key}"' in self.text])
                raise SampleError(known or f"an entry of over {MAX_ENTRY / 1e6:.0f} MB, or no JSON; it is not read.")
            self._more()

    def _more(self) -> bool:
        """Read on, twice as much where one value is longer than what is here; False at the end."""
        data = self.stream.read(max(BLOCK, len(self.text) - self.at))
        self.ended = not data
        try:
            more = self.decoder.decode(data, final=self.ended)
        except UnicodeDecodeError:
            raise SampleError("not readable as UTF-8 text; save it as UTF-8. What follows is not read.") from None
        self.text, self.at = self.text[self.at :] + more, 0
        return not self.ended
