"""The gateway's side of the press: PDFs on request, from a process that is started when it is needed and ended when it hangs."""

import asyncio
import base64
import json
import sys
from pathlib import Path
from typing import Protocol

from gateway.post.papers import Paper

# The largest sheet takes two seconds of a processor; in the morning rush, calls leave it a tenth of one.
PRINT_S = 30.0
# A PDF of the longest tray list, in base64, on one line.
ANSWER_BYTES_MAX = 32_000_000
# WeasyPrint keeps what it has seen of fonts; a press is renewed before that grows.
PAPERS_PER_PRESS = 500
_HOUSE = Path(__file__).resolve().parents[2]


class PrintingError(Exception):
    """A paper could not be printed; the message says why."""


class Printer(Protocol):
    async def print(self, paper: Paper) -> bytes:
        """The paper as PDF. Raises `PrintingError`."""

    async def close(self) -> None:
        """End what was started; a later `print` starts it again."""


class Press:
    """The port `Printer` filled by one process, which prints one paper at a time."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._one_at_a_time = asyncio.Lock()
        self._printed = 0

    async def print(self, paper: Paper) -> bytes:
        request = {
            "layouts": [(each.html, each.sizes, each.first) for each in paper.layouts],
            "pages_max": paper.pages_max,
        }
        async with self._one_at_a_time:
            try:
                async with asyncio.timeout(PRINT_S):
                    answer = await self._ask(json.dumps(request).encode() + b"\n")
            except TimeoutError:
                await self._end()
                raise PrintingError(f"printing took longer than {PRINT_S:.0f} s; the press was ended") from None
            except (OSError, ValueError) as fault:
                await self._end()
                raise PrintingError(f"the press cannot be reached: {type(fault).__name__}") from fault
            except BaseException:
                # Its answer would be taken for that to the next request.
                await self._end()
                raise
        if "pdf" not in answer:
            raise PrintingError(answer.get("fault", "the press gave no answer"))
        return base64.b64decode(answer["pdf"])

    async def close(self) -> None:
        async with self._one_at_a_time:
            await self._end()

    async def _ask(self, request: bytes) -> dict[str, str]:
        if self._printed >= PAPERS_PER_PRESS:
            await self._end()
        process = self._process
        if process is None or process.returncode is not None:
            process = self._process = await self._start()
            self._printed = 0
        if process.stdin is None or process.stdout is None:
            raise OSError("the press has no pipes")
        self._printed += 1
        process.stdin.write(request)
        await process.stdin.drain()
        line = await process.stdout.readline()
        if not line:
            raise PrintingError("the press ended; expected WeasyPrint and Debian's libpangoft2-1.0-0 (make setup)")
        found: dict[str, str] = json.loads(line)
        return found

    async def _start(self) -> asyncio.subprocess.Process:
        # A session of its own: Ctrl-C in a terminal is the gateway's to hear, which then ends the press.
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "gateway.post.press",
            cwd=_HOUSE,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=ANSWER_BYTES_MAX,
            start_new_session=True,
        )

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()
