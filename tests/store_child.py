"""Another process at the same database, for tests: `python -m tests.store_child COMMAND DATABASE`.

`confirm` changes pupils as fast as it can and says each request before and after; `rival` answers each line `DAY KEY` on
standard input with the outcome of cancelling that day; both act for the pupils that stand in the database.
"""

import asyncio
import os
import sys
from datetime import date
from itertools import count
from pathlib import Path

from core.access import Actor
from core.desk import BookingDesk, Cancel, Request
from core.desk import Town as Rules
from core.people import Pupil
from core.ports import Entries, Kept
from core.window import Channel
from gateway.store.engine import open_store
from gateway.store.port import Town
from tests.store_people import cancel
from tests.towns import at
from tests.towns import town as rules

TOWN = "roccachiara"
# Far enough ahead for a hundred days of service.
LOOK_AHEAD_DAYS = 200
CALLERS = 8


def far_rules() -> Rules:
    """The rules that both rivals go by."""
    return rules(look_ahead_days=LOOK_AHEAD_DAYS)


def say(line: str) -> None:
    # Straight to the kernel: what has been said stays said when the process is killed.
    os.write(1, f"{line}\n".encode())


async def confirm(town: Town, pupils: tuple[Pupil, ...], callers: int) -> None:
    """Each request changes every pupil, so that half of one would show."""
    prefix = f"{os.getpid()}"
    numbers = count(1)

    async def caller() -> None:
        for number in numbers:
            request = f"{prefix}-{number}"

            def decide(_: Kept, request: str = request) -> tuple[Entries, None]:
                changes = (cancel(each.id, request=f"{request}/{each.id}", receipt=request) for each in pupils)
                return Entries(tuple(changes)), None

            say(f"asked {request}")
            # No history is asked for: it would grow with every round.
            await town.transact([], decide)
            say(f"confirmed {request}")

    await asyncio.gather(*(caller() for _ in range(callers)))


async def rival(town: Town, pupils: tuple[Pupil, ...]) -> None:
    desk = BookingDesk(far_rules, town)
    pupil = pupils[0]
    actor = Actor(Channel.OFFICE, "terminal", None, frozenset({pupil.id}))
    say("ready")
    while line := await asyncio.to_thread(sys.stdin.readline):
        day, key = line.split()
        (outcome,) = await desk.act(
            actor, [Request(pupil, Cancel(date.fromisoformat(day)), key)], at("2026-11-23 18:30")
        )
        say(outcome.word)


async def main(command: str, database: Path) -> None:
    store = await open_store(f"sqlite:///{database}")
    await store.migrate()
    town = store.at(TOWN)
    pupils = await town.all_pupils()
    match command:
        case "confirm":
            await confirm(town, pupils, CALLERS)
        case "confirm-alone":
            await confirm(town, pupils, 1)
        case "rival":
            await rival(town, pupils)
        case _:
            sys.exit(f"tests.store_child: unknown command {command!r}")
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
