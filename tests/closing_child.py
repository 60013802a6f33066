"""A gateway as far as closings, orders and changes go: `python -m tests.closing_child NODE URL OFFSET CUTOFFS PORT`.

It is there to be killed. It serves two invented towns whose schools have cutoffs a few seconds apart, closes their days, sends
the orders to the mail server on PORT, and lets families change their day up to each cutoff and across it. It says each request
before and after: `asked KEY` and `told KEY WORD`. OFFSET (in microseconds) is how far its clock is from the real one.
"""

import asyncio
import os
import random
import signal
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import count
from pathlib import Path

from core.access import Actor
from core.calendar import ServiceCalendar
from core.clock import Reading, exactly
from core.desk import Action, Bland, Cancel, Request, Resume, Suspend, Town, Undecided, Undo
from core.people import ClassGroup, Diet, NewPupil, People, Pupil, School, UserCode
from core.window import Anytime, Channel
from gateway.closing import DayCloser
from gateway.metrics import Metrics
from gateway.municipality import Kitchen, Municipality
from gateway.nodes import Nodes
from gateway.post.delivery import SmtpDelivery
from gateway.post.printing import Press
from gateway.post.worker import Post
from gateway.settings import MailSettings
from gateway.store.engine import open_store
from gateway.store.port import StoreError
from gateway.telephone import TownDesks, open_desks
from tests.store_people import HASHER, guardian
from tests.towns import EVERY_SCHOOL_DAY, ROME, SCHOOL_YEAR

TOWNS = ("borgo", "pieve")
DAY = date(2026, 11, 24)
# The first school's cutoff, local; each next one's lies this much later.
FIRST_CUTOFF = time(9, 0)
GAP_S = 3
# Of every so many cutoffs one is two schools': they are closed together and told in one order.
TWINS_EVERY = 4
CLASSES = ("1A", "1B")
PUPILS_PER_CLASS = 3
DIETS = (None, Diet("C"), Diet("F", last=date(2026, 11, 1)))
# How sure the clock is, as a machine with chrony knows it.
BOUND = timedelta(milliseconds=5)
WRITERS = 6
# A family acts within this of its school's cutoff.
AROUND_S = 1.5
# One request in so many is decided and then takes its time, as when Asterisk is slow to answer.
SLOW_EVERY, SLOW_MOST_S = 4, 0.4


def cutoff_of(number: int) -> datetime:
    return datetime.combine(DAY, FIRST_CUTOFF, ROME).astimezone(UTC) + timedelta(seconds=number * GAP_S)


def schools_of(number: int) -> Iterator[tuple[str, str]]:
    """The town and the schools of one cutoff."""
    town = TOWNS[number % len(TOWNS)]
    yield town, f"scuola-{number:02}"
    if number % TWINS_EVERY == 0:
        yield town, f"scuola-{number:02}-b"


def municipalities(cutoffs: int) -> Sequence[Municipality]:
    found = []
    for key in TOWNS:
        schools = {
            school: School(school, school, cutoff_of(number).astimezone(ROME).time())
            for number in range(cutoffs)
            for town, school in schools_of(number)
            if town == key
        }
        classes = {(school, name): ClassGroup(school, name, EVERY_SCHOOL_DAY) for school in schools for name in CLASSES}
        calendar = ServiceCalendar(ROME, SCHOOL_YEAR, schools, classes)
        rules = Town(calendar, dict.fromkeys(Channel, Anytime(60)), bland_days_max=0, tray_diets=frozenset("C"))
        kitchen = Kitchen("Centro cottura", f"{key}@example.org")
        found.append(Municipality(key, key.title(), ("it",), (), 5, 4, timedelta(seconds=2), rules, kitchen=kitchen))
    return found


def people_of(town: Municipality) -> People:
    numbers = count(10_000)
    pupils = tuple(
        NewPupil(UserCode(str(next(numbers))), "Anna", "Verdi", None, school, name, DIETS[number % len(DIETS)], (0,))
        for school, name in town.town.calendar.classes
        for number in range(PUPILS_PER_CLASS)
    )
    return People((guardian(),), pupils)


class HereClock:
    """The machine's clock, moved by `offset`."""

    def __init__(self, offset: timedelta) -> None:
        self._offset = offset

    def read(self) -> Reading:
        return exactly(datetime.now(UTC) + self._offset, bound=BOUND)

    def now(self) -> datetime:
        return datetime.now(UTC) + self._offset


class Teller:
    """Says what happens, on standard output."""

    def info(self, event: str, /, **fields: object) -> None:
        say(f"{event} {fields}")

    warning = error = info


def say(line: str) -> None:
    # Straight to the kernel: what has been said stays said when the process is killed.
    os.write(1, f"{line}\n".encode())


def actions() -> Action:
    return random.choice(
        (
            Cancel(DAY),
            Bland(DAY),
            Cancel(DAY),
            Bland(DAY),
            Suspend(DAY),
            Suspend(DAY, DAY),
            Resume(DAY),
            Undo(DAY),
            Undo(),
        )
    )


async def act(desks: TownDesks, clock: HereClock, pupils: Sequence[Pupil], name: str) -> None:
    """One writer: asks for something for whoever has a cutoff about now."""
    for number in count():
        calendar = desks.municipality().town.calendar
        now = clock.now()
        about = [
            pupil for pupil in pupils if abs(calendar.cutoff(pupil.school, DAY) - now) < timedelta(seconds=AROUND_S)
        ]
        if about:
            pupil, key, at = random.choice(about), f"{name}-{number}", clock.read()
            say(f"asked {key}")
            try:
                with desks.booking.deciding(at):
                    if number % SLOW_EVERY == 0:
                        await asyncio.sleep(random.uniform(0, SLOW_MOST_S))
                    actor = Actor(Channel.PHONE, name, None, frozenset({pupil.id}))
                    [outcome] = await desks.booking.act(actor, [Request(pupil, actions(), key)], at)
                say(f"told {key} {outcome.word}")
            except StoreError as fault:
                say(f"failed {key} {type(fault).__name__}")
        await asyncio.sleep(random.uniform(0.005, 0.05))


async def main(node: str, url: str, offset: timedelta, cutoffs: int, port: int) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    clock, undecided, teller = HereClock(offset), Undecided(), Teller()
    store = await open_store(url)
    towns = {town.key: town for town in municipalities(cutoffs)}
    desks = {
        key: open_desks(lambda town=town: town, store, HASHER, undecided)  # type: ignore[misc]  # a default that binds it
        for key, town in towns.items()
    }
    mail = MailSettings(host="127.0.0.1", port=port, security="none", timeout_s=10, sender="mensa@example.org")
    post = Post(store, towns.get, SmtpDelivery(mail, Path()), Press(), clock.now, teller)
    nodes = Nodes(node, store, undecided, clock.read, lambda: ("hash", len(towns)), teller)
    closer = DayCloser(
        store,
        nodes,
        towns=lambda: list(towns),
        desks_of=desks.get,
        clock_of=lambda _: clock,
        now=clock.now,
        log=teller,
        metrics=Metrics(),
        on_order=post.wake,
    )
    posting = asyncio.create_task(post.run())
    beating, closing = asyncio.create_task(nodes.run()), asyncio.create_task(closer.run())
    writers = []
    for key, each in desks.items():
        pupils = await each.store.all_pupils()
        writers += [
            asyncio.create_task(act(each, clock, pupils, f"{os.getpid()}-{key}-{number}")) for number in range(WRITERS)
        ]
    say("ready")
    await stop.wait()
    for writer in writers:
        writer.cancel()
    await asyncio.wait(writers)
    closer.stop()
    await closing
    await nodes.leave()
    beating.cancel()
    posting.cancel()
    await asyncio.wait([posting])
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], timedelta(microseconds=int(sys.argv[3])), *map(int, sys.argv[4:])))
