"""CPU of a whole guided call with its durable change, against as many commands sent by a server that knows no rules."""

import asyncio
import statistics
import tempfile
from pathlib import Path

from bench.calling import call
from bench.result import Result
from bench.serving import Served, changes_in, number_of, our_gateway, stock_panoramisk

# Of each server in turn; every call of ours cancels the meal of another pupil.
ROUNDS = 7
CALLS = 60
# As many as a small town has at its busiest minute.
AT_ONCE = 8
KEYS = ("1", "1")
GOAL = 2.0


def measure() -> Result:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        ours, stock = asyncio.run(_compare(Path(folder)))
    return Result(
        "dialogue",
        "CPU of our gateway for a call that cancels a meal: flow, rules, durable commit, call log",
        "stock panoramisk on uvloop sending the same commands, with no logic",
        ours * 1e3,
        stock * 1e3,
        "ms",
        GOAL,
        "lower",
    )


async def _compare(folder: Path) -> tuple[float, float]:
    pupils = ROUNDS * CALLS + CALLS + 1
    async with our_gateway(folder, pupils) as ours:
        last = pupils - 1
        commands = (await call(ours.port, KEYS, caller=number_of(last), number=last)).commands
        assert any(each.startswith("SET VARIABLE IVR_OUTCOME") and "cancelled" in each for each in commands), commands
        # The question at which the caller hangs up is answered by nobody.
        async with stock_panoramisk(folder, commands[:-1]) as stock:
            await _round(ours, ROUNDS)
            await _round(stock, ROUNDS)
            spent: dict[Served, list[float]] = {ours: [], stock: []}
            for number in range(ROUNDS):
                for server in (ours, stock):
                    before = server.cpu_s()
                    await _round(server, number)
                    spent[server].append((server.cpu_s() - before) / CALLS)
    made = changes_in(folder)
    assert made == pupils, f"{made} changes were made for {pupils} pupils"
    return statistics.median(spent[ours]), statistics.median(spent[stock])


async def _round(server: Served, number: int) -> None:
    pupils = iter(range(number * CALLS, (number + 1) * CALLS))

    async def caller() -> None:
        for pupil in pupils:
            await call(server.port, KEYS, caller=number_of(pupil), number=pupil)

    await asyncio.gather(*(caller() for _ in range(AT_ONCE)))
