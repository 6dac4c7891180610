"""What the browser cannot make of a chart by itself: a PDF with its fonts, and the zip of a paper's figures and texts.

Both are routes that keep nothing. The picture comes from the browser, which drew it; the door has seen who asks.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable
from xml.etree import ElementTree

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from mode_core.errors import ModeError

MOST = 64_000_000  # bytes of what is sent
_MM = re.compile(r'\b(width|height)="([\d.]+)mm"')
_NAME = re.compile(r"[\w-][\w.+-]{0,199}")
_REFERS = re.compile(r"url\(\s*['\"]?([^'\")]*)", re.IGNORECASE)
_WITHIN = ("#", "data:image/png;")


class PictureError(ModeError):
    """What was sent is no picture of a chart, or names something outside of itself."""


def pdf(svg: bytes) -> bytes:
    """One page of the picture's own size, with the fonts of its letters in it.

    Raises:
        PictureError: no SVG, or one that refers to anything outside of itself: nothing here may be read through it.
    """
    import vl_convert  # 30 MB, of which most people need nothing

    try:
        root = ElementTree.fromstring(svg)
    except ElementTree.ParseError as broken:
        raise PictureError(f"The picture is no SVG: {broken}. Draw it again.") from None
    for node in root.iter():
        for name, value in node.attrib.items():
            named = [value] if name.rpartition("}")[2] in ("href", "src") else _REFERS.findall(value)
            if not all(each.startswith(_WITHIN) for each in named):
                raise PictureError(f"The picture refers to {value[:80]!r}, which is not in it. Draw it again.")
    try:
        return vl_convert.svg_to_pdf(_MM.sub(_points, svg.decode(), count=2))
    except (ValueError, RuntimeError) as refused:
        why = str(refused).partition("\n")[0]  # after it stands the converter's own stack
        raise PictureError(f"The picture could not be made a PDF: {why}") from None


def _points(mm: re.Match[str]) -> str:
    """A size of the page in what it is counted in, points for which the converter takes its pixels."""
    return f'{mm[1]}="{float(mm[2]) * 72 / 25.4:.4f}"'


def kit(sent: bytes) -> bytes:
    """A zip of `{"files": {name: text}, "figures": {name: SVG}}`, the figures as PDF as well.

    Raises:
        PictureError: another form, a name that is none, or as `pdf`.
    """
    try:
        told = json.loads(sent)
        files, figures = (dict(told[name]) for name in ("files", "figures"))
    except (ValueError, KeyError, TypeError) as other:
        raise PictureError(f"Expected files and figures by name; got something else ({other!r}).") from None
    held = {**files, **{f"figures/{name}.svg": text for name, text in figures.items()}}
    for name, text in held.items():
        if not all(map(_NAME.fullmatch, name.split("/"))) or not isinstance(text, str):
            raise PictureError(f"{name[:80]!r} is no name for a text in the kit.")
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in held.items():
            archive.writestr(name, text)
        for name, text in figures.items():
            archive.writestr(f"figures/{name}.pdf", pdf(text.encode()))
    return made.getvalue()


def _route(path: str, make: Callable[[bytes], bytes], kind: str) -> Route:
    async def answer(request: Request) -> Response:
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > MOST:
                return PlainTextResponse(f"More than {MOST / 1e6:.0f} MB of pictures. Take fewer.", 413)
        try:
            return Response(await run_in_threadpool(make, bytes(body)), media_type=kind)
        except PictureError as refused:
            return PlainTextResponse(str(refused), 400)

    return Route(path, answer, methods=["POST"])


ROUTES = [_route("/paper/pdf", pdf, "application/pdf"), _route("/paper/kit", kit, "application/zip")]
