"""Callers for benchmarks: Asterisk's end of FastAGI dialogues, as light as can be, so that the gateway is what is measured."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.asterisk_double import agi_header

HOST = "127.0.0.1"
# The example town's number.
DIALLED = "800000100"
# Nothing a gateway does takes that long; beyond it a benchmark has found one that hangs.
DIALOGUE_S = 60


@dataclass(slots=True)
class Dialogue:
    """One call that was made: the commands that came, and the seconds between each key and the next question."""

    commands: list[str] = field(default_factory=list)
    waits_s: list[float] = field(default_factory=list)

    @property
    def outcome(self) -> str | None:
        """The word that the call was told to end with; None when the gateway never said one."""
        words = [each.split()[-1].strip('"') for each in self.commands if each.startswith("SET VARIABLE IVR_OUTCOME")]
        return words[-1] if words else None


async def call(
    port: int,
    keys: Sequence[str],
    *,
    caller: str,
    number: int,
    dialled: str = DIALLED,
    thinks_s: Callable[[], float] | None = None,
    hold: asyncio.Event | None = None,
) -> Dialogue:
    """One call that answers each question with the next of `keys` and hangs up at the question after the last.

    `thinks_s` gives how long the caller waits before each key; at that last question `hold` is waited for first.
    """
    async with asyncio.timeout(DIALOGUE_S):
        return await _call(
            port,
            list(keys),
            agi_header(dialled=dialled, caller=caller, uniqueid=f"1795300000.{number}"),
            thinks_s,
            hold,
        )


async def _call(
    port: int,
    keys: list[str],
    header: bytes,
    thinks_s: Callable[[], float] | None,
    hold: asyncio.Event | None,
) -> Dialogue:
    dialogue = Dialogue()
    keyed_at: float | None = None
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(header)
        while line := await reader.readline():
            dialogue.commands.append(line.decode().rstrip("\n"))
            if line.startswith(b"EXEC Read"):
                if keyed_at is not None:
                    dialogue.waits_s.append(time.perf_counter() - keyed_at)
                if not keys:
                    if hold is not None:
                        await hold.wait()
                    writer.write(b"HANGUP\nHANGUP\n")
                    break
                if thinks_s is not None:
                    await asyncio.sleep(thinks_s())
                writer.write(b"200 result=0\n")
            elif line.startswith(b"GET FULL"):
                keyed_at = time.perf_counter()
                writer.write(f"200 result=1 ({keys.pop(0)}|OK)\n".encode())
            elif line.startswith(b"ANSWER"):
                writer.write(b"200 result=0\n")
            else:
                writer.write(b"200 result=1\n")
    finally:
        writer.close()
    return dialogue
