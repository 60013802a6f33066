"""Days are closed once, whatever is killed (R25): gateways that die at random instants while cutoffs pass and families act.

What the closings say is held against a fold of the changes in plain SQL, written here and nowhere else. `CLOSING_ROUNDS=50`
lets fifty cutoffs pass; the figures of a run are printed with `-s`.
"""

import asyncio
import contextlib
import os
import random
import re
import sqlite3
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from gateway.store.engine import open_store
from tests.closing_child import DAY, TOWNS, cutoff_of, municipalities, people_of, schools_of
from tests.postgres import ADMIN, Cluster
from tests.smtp import MailServer
from tests.store_people import HASHER

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
ROUNDS = int(os.environ.get("CLOSING_ROUNDS", "6"))
# Two processes of Python start in a few seconds, also on a busy machine.
LEAD_S = 8
# A gateway that was killed at the last cutoff counts as dead half a minute later.
ALL_CLOSED_S = 90
CHILD_STOPS_S = 30
# An order whose gateway was killed while it was sent is another's after the lease; the clock goes on by more than that.
LEASES_END = timedelta(minutes=5)
ALL_SENT_S = 60
LOOK_EVERY_S = 0.1
TROUBLES = ("failed", "closings_wait", "closings_failed", "closing_without", "node_not_told")
ACCEPTED = {"cancelled", "bland", "suspended", "resumed", "undone"}

Query = Callable[[str], Awaitable[list[tuple[Any, ...]]]]

# Every school's day, how often it is closed, and the changes that reach it at this moment.
SEEN = f"""
SELECT s.id, (
    SELECT count(*) FROM changes c JOIN pupils p ON p.id = c.pupil
    WHERE p.municipality = s.municipality AND p.school = s.school
      AND c.first_day <= '{DAY}' AND (c.last_day IS NULL OR c.last_day >= '{DAY}')
) FROM closings s
"""
PRESENCES = f"""
WITH standing AS (
    SELECT c.id, c.pupil, c.kind FROM changes c
    WHERE c.kind <> 'undo'
      AND c.first_day <= '{DAY}' AND (c.last_day IS NULL OR c.last_day >= '{DAY}')
      AND NOT EXISTS (SELECT 1 FROM changes u WHERE u.takes_back = c.id)
), presences AS (
    SELECT p.id AS pupil, p.municipality, p.school, p.class_group,
        CASE WHEN (p.diet_first IS NULL OR p.diet_first <= '{DAY}') AND (p.diet_last IS NULL OR p.diet_last >= '{DAY}')
             THEN p.diet_code END AS diet,
        CASE WHEN (SELECT s.kind FROM standing s WHERE s.pupil = p.id AND s.kind IN ('suspend', 'resume')
                   ORDER BY s.id DESC LIMIT 1) = 'suspend' THEN 'suspended'
             WHEN EXISTS (SELECT 1 FROM standing s WHERE s.pupil = p.id AND s.kind = 'cancel') THEN 'cancelled'
             WHEN EXISTS (SELECT 1 FROM standing s WHERE s.pupil = p.id AND s.kind = 'bland') THEN 'bland'
             ELSE 'present' END AS presence
    FROM pupils p
)
"""
COUNTS_BY_SQL = f"""{PRESENCES}
SELECT m.key, e.school, e.class_group, e.presence, coalesce(e.diet, ''), count(*)
FROM presences e JOIN municipalities m ON m.id = e.municipality
WHERE e.presence IN ('present', 'bland')
GROUP BY m.key, e.school, e.class_group, e.presence, coalesce(e.diet, '')
"""
COUNTS_CLOSED = """
SELECT m.key, s.school, n.class_group, n.kind, coalesce(n.diet_code, ''), n.meals
FROM closing_counts n JOIN closings s ON s.id = n.closing JOIN municipalities m ON m.id = s.municipality
"""
OTHERWISE_BY_SQL = f"{PRESENCES} SELECT pupil, presence FROM presences WHERE presence <> 'present'"
OTHERWISE_CLOSED = "SELECT pupil, presence FROM closing_changes WHERE presence <> 'present'"
CLOSINGS = """
SELECT m.key, s.school, s.cutoff, s.order_number, s.closed_earliest
FROM closings s JOIN municipalities m ON m.id = s.municipality
"""
MESSAGES = "SELECT m.key, g.key, g.kind, g.about FROM messages g JOIN municipalities m ON m.id = g.municipality"


@dataclass(slots=True)
class Gateways:
    """The processes, what they said, and how often one was killed."""

    url: str
    mail: MailServer
    offset: timedelta
    running: list[asyncio.subprocess.Process] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    readers: list["asyncio.Task[None]"] = field(default_factory=list)
    ready: dict[int, asyncio.Event] = field(default_factory=dict)
    how_many: int = 1
    kills: int = 0

    def now(self) -> datetime:
        return datetime.now(UTC) + self.offset

    async def until(self, instant: datetime) -> None:
        await asyncio.sleep(max((instant - self.now()) / timedelta(seconds=1), 0))

    async def start(self, number: int) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.closing_child", f"node-{number}", self.url),
            *(str(self.offset // timedelta(microseconds=1)), str(ROUNDS), str(self.mail.port)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
        )
        self.ready[process.pid] = asyncio.Event()
        self.readers.append(asyncio.create_task(self._read(process)))
        return process

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            self.said.append(line.decode().strip())
            if line == b"ready\n":
                self.ready[process.pid].set()

    async def stop(self) -> None:
        """SIGTERM to each, once it is up."""
        async with asyncio.timeout(CHILD_STOPS_S):
            await asyncio.gather(*(self.ready[each.pid].wait() for each in self.running))
        for process in self.running:
            process.terminate()
        stopped = await asyncio.wait_for(asyncio.gather(*(each.wait() for each in self.running)), CHILD_STOPS_S)
        assert stopped == [0] * len(self.running)

    async def kill(self, number: int) -> None:
        """`kill -9`, and at once another in its place; one that still starts is left alone, or none would ever be up."""
        if not self.ready[self.running[number].pid].is_set():
            return
        self.running[number].kill()
        await self.running[number].wait()
        self.kills += 1
        self.running[number] = await self.start(number)

    def words(self) -> dict[str, str]:
        """What was told of each request, by its key."""
        return {line.split()[1]: line.split()[2] for line in self.said if line.startswith("told ")}

    def asked(self) -> set[str]:
        return {line.split()[1] for line in self.said if line.startswith("asked ")}


async def enrol(url: str) -> None:
    store = await open_store(url)
    await store.migrate()
    for town in municipalities(ROUNDS):
        await store.at(town.key).import_people(people_of(town), HASHER, lambda: "0000")
    # As an installation that has been in service for long: also what passes while the first gateway starts is closed.
    await store.closings_since(TOWNS, cutoff_of(0) - timedelta(hours=1))
    await store.close()


@contextlib.asynccontextmanager
async def gateways(url: str, how_many: int) -> AsyncIterator[Gateways]:
    """So many gateways, whose first cutoff is a few seconds ahead."""
    mail = MailServer()
    await mail.start()
    them = Gateways(url, mail, cutoff_of(0) - timedelta(seconds=LEAD_S) - datetime.now(UTC))
    them.how_many = how_many
    try:
        for number in range(how_many):
            them.running.append(await them.start(number))
        yield them
    finally:
        for process in them.running:
            if process.returncode is None:
                process.kill()
            await process.wait()
        await asyncio.gather(*them.readers)
        await mail.stop()


async def kill_at_random(them: Gateways) -> None:
    """At two of three cutoffs somebody is killed, now and then everybody: mostly while the day is being closed."""
    for number in range(ROUNDS - 1):
        if number and random.random() < 1 / 3:
            continue
        near = random.random() < 0.7
        after_s = random.uniform(-0.1, 0.25) if near else random.uniform(-0.5, 1.0)
        await them.until(cutoff_of(number) + timedelta(seconds=after_s))
        victims = range(len(them.running)) if random.random() < 0.2 else [random.randrange(len(them.running))]
        await asyncio.gather(*(them.kill(each) for each in victims))


async def watch(query: Query, seen: dict[int, int]) -> None:
    while True:
        await note(query, seen)
        await asyncio.sleep(LOOK_EVERY_S)


async def note(query: Query, seen: dict[int, int]) -> None:
    """Note of each closing, when it can be seen for the first time, how many changes reach its day."""
    for closing, changes in await query(SEEN):
        seen.setdefault(closing, changes)


async def all_closed(query: Query, schools: int) -> None:
    for _ in range(int(ALL_CLOSED_S / LOOK_EVERY_S)):
        [[closings]] = await query("SELECT count(*) FROM closings")
        if closings >= schools:
            return
        await asyncio.sleep(LOOK_EVERY_S)
    raise AssertionError(f"{closings} of {schools} days are closed {ALL_CLOSED_S} s after the last cutoff")


async def all_sent(query: Query) -> None:
    for _ in range(int(ALL_SENT_S / LOOK_EVERY_S)):
        [[waiting]] = await query("SELECT count(*) FROM messages WHERE state <> 'sent'")
        if not waiting:
            return
        await asyncio.sleep(LOOK_EVERY_S)
    raise AssertionError(f"{waiting} orders were not sent within {ALL_SENT_S} s")


async def chaos(url: str, how_many: int, query: Query) -> None:
    await enrol(url)
    schools = [each for number in range(ROUNDS) for each in schools_of(number)]
    seen: dict[int, int] = {}

    async with gateways(url, how_many) as them:
        watching = asyncio.create_task(watch(query, seen))
        await kill_at_random(them)
        await them.until(cutoff_of(ROUNDS))
        await all_closed(query, len(schools))
        await note(query, seen)
        watching.cancel()
        await them.stop()
        them.offset += LEASES_END
        them.running = [await them.start(0)]
        await all_sent(query)
        await them.stop()

    await every_order_was_sent_under_its_number(query, them.mail)
    await every_day_is_closed_once_under_one_order(query, schools)
    await what_was_counted_is_what_the_changes_say(query)
    assert dict(await query(SEEN)) == seen, "a day was changed after its closing"
    kept = {request for (request,) in await query("SELECT request FROM changes")}
    told = them.words()
    accepted = {key for key, word in told.items() if word in ACCEPTED}
    assert accepted <= kept, "a change that was told as accepted is not there"
    assert kept <= them.asked()
    assert accepted
    await report(them, query, told)


async def every_day_is_closed_once_under_one_order(query: Query, schools: Sequence[tuple[str, str]]) -> None:
    closings = await query(CLOSINGS)
    assert Counter((town, school) for town, school, *_ in closings) == Counter(schools)
    orders: dict[tuple[str, int], set[int]] = {}
    for town, _, cutoff, order, _ in closings:
        orders.setdefault((town, order), set()).add(cutoff)
    # One order for each cutoff, one cutoff for each order, and one message for each order.
    assert len(orders) == ROUNDS
    assert all(len(cutoffs) == 1 for cutoffs in orders.values())
    for town in TOWNS:
        assert sorted(order for key, order in orders if key == town) == list(
            range(1, len([key for key, _ in orders if key == town]) + 1)
        )
    messages = await query(MESSAGES)
    assert Counter((town, key) for town, key, _, _ in messages) == Counter(
        (town, f"order-{order}") for town, order in orders
    )
    assert {kind for _, _, kind, _ in messages} == {"order"}


async def every_order_was_sent_under_its_number(query: Query, mail: MailServer) -> None:
    meals = {
        (town, order): total
        for town, order, total in await query(
            """
            SELECT m.key, s.order_number, coalesce(sum(n.meals), 0)
            FROM closings s JOIN municipalities m ON m.id = s.municipality
            LEFT JOIN closing_counts n ON n.closing = s.id
            GROUP BY m.key, s.order_number
            """
        )
    }
    arrived: dict[tuple[str, int], set[tuple[str, int]]] = {}
    for each in mail.mails:
        town = each["To"].addresses[0].username
        number, total = re.search(r"Ordine (\d+), .*: (\d+) past[oi]", each["Subject"]).groups()
        arrived.setdefault((town, int(number)), set()).add((each["Message-ID"], int(total)))
    assert arrived.keys() == meals.keys()
    # However often an order came, it was the same mail with the same count.
    assert {key: [total for _, total in sent] for key, sent in arrived.items()} == {
        key: [total] for key, total in meals.items()
    }


async def what_was_counted_is_what_the_changes_say(query: Query) -> None:
    assert sorted(await query(COUNTS_CLOSED)) == sorted(await query(COUNTS_BY_SQL))
    assert sorted(await query(OTHERWISE_CLOSED)) == sorted(await query(OTHERWISE_BY_SQL))


async def report(them: Gateways, query: Query, told: dict[str, str]) -> None:
    late_s = sorted((closed - cutoff) / 1e6 for _, _, cutoff, _, closed in await query(CLOSINGS))
    words = Counter(told.values())
    [[changes]] = await query("SELECT count(*) FROM changes")
    print(  # noqa: T201 - the figures of a long run, shown with -s
        f"\n{ROUNDS} cutoffs, {len(late_s)} closings, {them.kills} kills of {them.how_many} gateways; "
        f"{changes} changes of {len(them.asked())} requests ({words['too_late']} too late); "
        f"{len(them.mail.mails)} mails of {ROUNDS} orders; "
        f"closed after {late_s[len(late_s) // 2]:.2f} s (median), {late_s[-1]:.2f} s (latest)",
        *(line for line in them.said if line.startswith(TROUBLES)),
        sep="\n",
    )


async def test_R25_kill_9_at_the_cutoffs_of_one_gateway_on_sqlite(tmp_path: Path) -> None:
    path = tmp_path / "mensa.db"

    def ask(sql: str) -> list[tuple[Any, ...]]:
        with contextlib.closing(sqlite3.connect(path, timeout=10)) as connection:
            return connection.execute(sql).fetchall()

    await chaos(f"sqlite:///{path}", 1, lambda sql: asyncio.to_thread(ask, sql))


async def test_R25_kill_9_at_the_cutoffs_of_two_gateways_on_postgresql(postgres: Cluster, postgres_url: str) -> None:
    database = postgres_url.rpartition("/")[2]
    connection = await asyncpg.connect(postgres.url(database, ADMIN))
    alone = asyncio.Lock()

    async def ask(sql: str) -> list[tuple[Any, ...]]:
        async with alone:
            return [tuple(row) for row in await connection.fetch(sql)]

    try:
        await chaos(postgres_url, 2, ask)
    finally:
        await connection.close()
