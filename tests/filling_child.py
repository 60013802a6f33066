"""A process that fills or copies a database until it is done or killed, for tests.

`python -m tests.filling_child generate URL PLAN` or `copy SOURCE_URL TARGET_URL`; a line on standard output for each part.
"""

import asyncio
import os
import sys
from datetime import UTC, datetime, timedelta

from gateway.store.bulk import open_bulk
from gateway.store.copying import copy_installation
from tests.store_people import HASHER

# Small enough for a kill to meet many of them.
RANGE_PUPILS, PART_ROWS = 10, 50


def say(count: int) -> None:
    os.write(1, f"{count}\n".encode())


async def main(command: str, first: str, second: str) -> None:
    if command == "generate":
        # Here, for the files of towns take a second to load, and copying has no use for them.
        from gateway.generation import Plan, fill

        async with open_bulk(first, makes=True) as bulk:
            say(0)
            await fill(bulk, Plan.from_text(second), HASHER, lambda done, _: say(done), range_pupils=RANGE_PUPILS)
    else:
        await copy_installation(
            first,
            second,
            lambda _: datetime.now(UTC),
            timedelta(seconds=30),
            lambda _what, _table, done, _total: say(done),
            part_rows=PART_ROWS,
        )


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
