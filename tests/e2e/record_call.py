"""Records one whole real call as the caller hears it: `make recording` beside a `make run AT=2026-11-23T18:31`.

The caller is a recognised parent of the example town who cancels; SIPp signals, this program keeps the sound.
"""

import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path

from caller import Caller
from heard import from_alaw

HOUSE = Path(__file__).parents[2]
SIP_PORT, NUMBER, PARENT = 5060, "800000100", "+390350000101"
PHRASES = HOUSE / "var" / "sounds" / "it" / "phrase"
# After a question has been spoken: what a parent takes to find the key.
THINKS_S = 0.6


async def record(target: Path) -> None:
    """Call, cancel, listen to the receipt and the new state, hang up; write what was heard to `target` (Ogg Vorbis)."""
    with tempfile.TemporaryDirectory() as folder:
        async with Caller(Path(folder), SIP_PORT, to=NUMBER, from_=PARENT) as caller:
            for last_words in ("offer-language", "confirm-keys"):
                await caller.wait_until_heard(from_alaw((PHRASES / f"{last_words}.alaw").read_bytes()))
                await asyncio.sleep(THINKS_S)
                await caller.press("1")
            await caller.wait_until_heard(from_alaw((PHRASES / "offer-undo-cancel.alaw").read_bytes()))
            await caller.hang_up()
            caller.save(Path(folder) / "call.wav")
        await asyncio.to_thread(
            subprocess.run, ["sox", str(Path(folder) / "call.wav"), "-C", "3", str(target)], check=True, timeout=60
        )


if __name__ == "__main__":
    asyncio.run(record(Path(sys.argv[1])))
