"""The press: a process of its own that makes PDFs of HTML, one at a time, on request (`python -m gateway.post.press`).

WeasyPrint takes tenths of a second of pure computing, which callers would hear as pauses; here it also can be stopped.
Each request and each answer is a line of JSON.
"""

import base64
import json
import os
import sys
from collections.abc import Sequence
from typing import Any, BinaryIO

from weasyprint import CSS, HTML
from weasyprint.document import Document
from weasyprint.text.fonts import FontConfiguration

# Calls, which run in the process beside this one, go first.
NICENESS = 5


class DoesNotFitError(Exception):
    """No layout of the paper fits into the pages that it may have."""


def pdf(layouts: Sequence[tuple[str, Sequence[float], int]], pages_max: int | None) -> bytes:
    """The first layout (HTML, sizes of type, which of them to try first) that fits, at the largest size that does.

    The same paper is the same bytes. Raises `DoesNotFitError`.
    """
    fonts = FontConfiguration()
    for html, sizes, first in layouts:
        document = _fitted(html, sizes, first, pages_max, fonts)
        if document is not None:
            return bytes(document.write_pdf(pdf_variant="pdf/ua-1", pdf_identifier=b""))
    raise DoesNotFitError(f"no layout of the paper fits into {pages_max} page(s) even at its smallest")


def _fitted(
    html: str, sizes: Sequence[float], first: int, pages_max: int | None, fonts: FontConfiguration
) -> Document | None:
    """Laid out at the largest of `sizes` that fits: from the first guess on in doubled steps, then by halving."""

    def laid_out(index: int) -> Document | None:
        size = CSS(string=f"html {{ font-size: {sizes[index]}pt }}")
        document = HTML(string=html, url_fetcher=_nothing).render(stylesheets=[size], font_config=fonts)
        return document if pages_max is None or len(document.pages) <= pages_max else None

    # Sizes up to `too_large` do not fit, `fits` does at `at`.
    fits, at, too_large = laid_out(first), first, -1
    step = 1
    if fits is None:
        too_large = first
        while fits is None and at < len(sizes) - 1:
            too_large, at = at, min(at + step, len(sizes) - 1)
            fits, step = laid_out(at), step * 2
        if fits is None:
            return None
    else:
        while at > 0 and (larger := laid_out(max(at - step, 0))) is not None:
            fits, at, step = larger, max(at - step, 0), step * 2
        too_large = max(at - step, 0) if at else -1
    while at - too_large > 1:
        middle = (at + too_large) // 2
        document = laid_out(middle)
        if document is None:
            too_large = middle
        else:
            fits, at = document, middle
    return fits


def _nothing(url: str, **_: object) -> dict[str, Any]:
    raise ValueError(f"{url}: a paper fetches nothing")


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Print until there are no more requests."""
    for line in requests:
        try:
            asked = json.loads(line)
            answer = {"pdf": base64.b64encode(pdf(asked["layouts"], asked["pages_max"])).decode()}
        except Exception as fault:
            answer = {"fault": f"{type(fault).__name__}: {fault}"}
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


if __name__ == "__main__":
    os.nice(NICENESS)
    # What a library prints must not come between the answers.
    own = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    serve(sys.stdin.buffer, os.fdopen(own, "wb"))
