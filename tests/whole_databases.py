"""What stands in a whole database, for tests of what fills and copies them."""

import random
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from gateway.store.bulk import FILLED, FILLING, Row, key_of, open_bulk, tables_in_order
from gateway.store.tables import settings

HOUSE = Path(__file__).parents[1]
ROWS_MAX = 1_000_000
# A child that is not killed ends long before.
CHILD_TIMEOUT_S = 120.0


async def contents(url: str) -> Mapping[str, list[Row]]:
    """Every row of every table, but for what was said of the filling."""
    async with open_bulk(url) as bulk:
        found = {table.name: await bulk.rows(table, None, ROWS_MAX) for table in tables_in_order()}
    found["settings"] = [row for row in found["settings"] if key_of(settings, row)[0] not in (FILLING, FILLED)]
    return found


def run_child(*arguments: str, until: Callable[[int], bool] = lambda _: False) -> bool:
    """Run `tests.filling_child`, killed after the part at which `until` says so; whether it came to its end."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.filling_child", *arguments], cwd=HOUSE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    with child.stdout:
        for part, _ in enumerate(child.stdout):
            if until(part):
                child.kill()
    return child.wait(CHILD_TIMEOUT_S) == 0


def run_killed(chance: random.Random, kills: int, parts: int, *arguments: str) -> None:
    """Run the child to its end, killed that often after some of the parts that a run still has."""
    for _ in range(kills):
        at = chance.randrange(parts)
        run_child(*arguments, until=lambda part, at=at: part >= at)  # type: ignore[misc]  # each kill has its own
    assert run_child(*arguments)
