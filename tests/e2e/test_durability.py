"""Before Asterisk is told a receipt, the change is on the disk (R18): as the kernel sees a gateway that serves.

`kill -9` cannot tell a synced write from one that only the kernel has; the order of system calls can.
"""

import asyncio
import contextlib
import re
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from town import MONDAY, Gateway, open_town

from core.changes import Presence
from ivr.pending import Pending
from tests.asterisk_double import AsteriskDouble, parsed_arguments

pytestmark = pytest.mark.e2e

# Giulia of the example town, and a number that is recognised as her father's.
CODE, CALLER = "50001", "+390350000105"
CALLS = 5
# Attaching to a few threads takes milliseconds.
ATTACHING_S = 20.0
# A page of the database as it goes to the log, whatever of it has to be escaped.
DATA_BYTES = 4_200


async def test_R18_the_log_is_synced_before_asterisk_is_told_the_receipt(tmp_path: Path, line_sounds: Path) -> None:
    trace = tmp_path / "trace"
    changes: list[tuple[str, str]] = []

    async with open_town(tmp_path, line_sounds) as town:
        gateway = await town.serve()
        async with traced(gateway, trace):
            for number in range(CALLS):
                # Every other call takes back what the one before has cancelled.
                asterisk = AsteriskDouble(["5" if number % 2 else "1", "1", "x"])
                await asterisk.call("127.0.0.1", gateway.port, caller=CALLER, uniqueid=f"1795300000.{number}")
                changes.append(change_of(asterisk))
        presence = await town.presence(CODE, MONDAY)

    assert presence is Presence.CANCELLED
    events = list(events_in(trace.read_text(encoding="utf-8", errors="replace"), changes))
    for request, receipt in changes:
        since = events[events.index(f"wrote {request}") :]
        # What else is written meanwhile, such as the call log, need not be synced by then.
        assert "synced" in since[: since.index(f"told {receipt}")], f"{receipt} was told before the log was synced"


def change_of(asterisk: AsteriskDouble) -> tuple[str, str]:
    """The key of the request that was confirmed in a call, and the receipt that Asterisk was told."""
    told = [
        arguments[2:] for line in asterisk.commands if (arguments := parsed_arguments(line))[:2] == ["SET", "VARIABLE"]
    ]
    [request] = [value for name, value in told if name == "IVR_REQUEST"]
    pending, receipt = [value for name, value in told if name == "IVR_SAVED"]
    assert pending == "pending"
    return Pending.parse(request).key, receipt


@contextlib.asynccontextmanager
async def traced(gateway: Gateway, trace: Path) -> AsyncIterator[None]:
    """Write what the gateway writes, sends and syncs to `trace`, in the order in which it happens."""
    strace = await asyncio.create_subprocess_exec(
        *("strace", "-f", "-y", "-s", str(DATA_BYTES), "-o", str(trace), "-p", str(gateway.process.pid)),
        *("-e", "trace=write,pwrite64,sendto,fsync,fdatasync"),
        stderr=asyncio.subprocess.PIPE,
    )
    assert strace.stderr is not None
    assert b"attached" in await asyncio.wait_for(strace.stderr.readline(), ATTACHING_S)
    try:
        yield
    finally:
        # It lets go of the gateway, and writes what it has.
        strace.send_signal(signal.SIGINT)
        await asyncio.wait_for(strace.communicate(), ATTACHING_S)


def events_in(trace: str, changes: list[tuple[str, str]]) -> Iterator[str]:
    """A change written to the log or the log synced, when the call had ended; a receipt told, when the call began."""
    begun: dict[str, str] = {}
    for line in trace.splitlines():
        thread, _, call = line.partition(" ")
        call = call.strip()
        if resumed := re.match(r"<\.\.\. \w+ resumed>", call):
            call = begun.pop(thread, "") + call[resumed.end() :]
        elif call.startswith("sendto("):
            yield from (f"told {receipt}" for _, receipt in changes if f'IVR_SAVED \\"{receipt}\\"' in call)
        if call.endswith("<unfinished ...>"):
            begun[thread] = call.removesuffix("<unfinished ...>")
        elif "-wal>" in call and re.match(r"p?write(64)?\(", call):
            yield from (f"wrote {request}" for request, _ in changes if request in call)
        elif "-wal>" in call and re.match(r"f(data)?sync\(.*= 0$", call):
            yield "synced"
