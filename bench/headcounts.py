"""The headcount of one school before its cutoff, against counting the same school's pupils and nothing else."""

import asyncio
import random
import statistics
import time
from collections.abc import Sequence
from datetime import date, timedelta

import asyncpg

from bench.province import Province, province, size
from bench.result import Result
from core.headcount import served_classes
from core.kitchen import KitchenDesk
from gateway.municipality import Municipality
from gateway.store.engine import open_store

SCHOOLS = 400
# Connections, prepared statements and the ids of the towns.
WARM_UP = 50
BARE = "SELECT class_group, count(*) FROM pupils WHERE municipality = $1 AND school = $2 GROUP BY class_group"


def measure() -> list[Result]:
    with province(size(), changes=False) as whole:
        ours, bare, meals = asyncio.run(compare(whole))
    return [
        Result(
            "headcount",
            f"headcount of one school before its cutoff, {share}, schools of all towns by chance",
            "a bare count of the same school's pupils by class group",
            _share(ours, share) * 1e3,
            _share(bare, share) * 1e3,
            "ms",
            None,
            "lower",
            f"{meals / len(ours):.0f} meals a school",
        )
        for share in ("p50", "p99")
    ]


async def compare(whole: Province, schools: int = SCHOOLS) -> tuple[list[float], list[float], int]:
    """The seconds of each headcount, those of each bare count, and the meals of all."""
    chance = random.Random(1)  # noqa: S311 - which school is counted is no secret
    municipalities = list(whole.configuration().municipalities)
    ours: list[float] = []
    bare: list[float] = []
    meals = 0
    store = await open_store(whole.url)
    reference = await asyncpg.connect(whole.admin_url)
    try:
        ids = dict(await reference.fetch("SELECT key, id FROM municipalities"))
        busiest = await reference.fetchval(
            "SELECT first_day FROM changes WHERE kind = 'cancel' GROUP BY first_day ORDER BY count(*) DESC LIMIT 1"
        )
        counted = await reference.prepare(BARE)
        for _number in range(WARM_UP + schools):
            town = chance.choice(municipalities)
            school, day = chance.choice(sorted(town.town.calendar.schools)), busiest
            desk = KitchenDesk(town.key, lambda town=town: town.town, store.at(town.key))  # type: ignore[misc]  # bound now
            begun = time.perf_counter()
            headcount, _ = await desk.headcount(school, _served(town, school, day))
            ours.append(time.perf_counter() - begun)
            begun = time.perf_counter()
            await counted.fetch(ids[town.key], school)
            bare.append(time.perf_counter() - begun)
            meals += headcount.meals
    finally:
        await reference.close()
        await store.close()
    return ours[WARM_UP:], bare[WARM_UP:], meals


def _served(town: Municipality, school: str, day: date) -> date:
    """The first day from `day` on that the school serves, at most a week on."""
    days = (day + timedelta(days=ahead) for ahead in range(7))
    return next((each for each in days if served_classes(town.town.calendar, school, each)), day)


def _share(seconds: Sequence[float], share: str) -> float:
    return statistics.quantiles(seconds, n=100, method="inclusive")[int(share.removeprefix("p")) - 1]
