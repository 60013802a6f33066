"""A hundred calls on one gateway at once: how long a caller waits between a key and the next question, and what they weigh.

Keys pressed in that wait are lost, so it is to stay below about 30 ms also in a crowd.
"""

import asyncio
import random
import statistics
import tempfile
from pathlib import Path

from bench.calling import call
from bench.result import Result
from bench.serving import Served, number_of, our_gateway

CROWD = 100
HELD = 500
ROUNDS = 2
# People think between half a second and two; this is a hurried crowd.
THINKS_S = (0.2, 1.2)
KEYS = ("1", "1")
SHARE = 0.99


def measure() -> list[Result]:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        crowd_s, alone_s, idle_mb, held_mb = asyncio.run(_compare(Path(folder)))
    return [
        Result(
            "crowd",
            f"from a key to the next question, p99, {CROWD} calls at once",
            "the same of one call alone",
            crowd_s * 1e3,
            alone_s * 1e3,
            "ms",
            None,
            "lower",
        ),
        Result(
            "memory",
            f"resident memory of the gateway with {HELD} calls held (goals: 150 MB idle, 250 MB then)",
            "the same gateway idle",
            held_mb,
            idle_mb,
            "MB",
            None,
            "lower",
        ),
    ]


async def _compare(folder: Path) -> tuple[float, float, float, float]:
    pupils = ROUNDS * 2 * CROWD + HELD
    crowd: list[float] = []
    alone: list[float] = []
    async with our_gateway(folder, pupils) as gateway:
        idle_mb = gateway.resident_mb()
        chance = random.Random(1)  # noqa: S311 - how long people think is no secret
        for number in range(ROUNDS):
            first = number * 2 * CROWD
            calls = (
                call(
                    gateway.port,
                    KEYS,
                    caller=number_of(pupil),
                    number=pupil,
                    thinks_s=lambda: chance.uniform(*THINKS_S),
                )
                for pupil in range(first, first + CROWD)
            )
            for dialogue in await asyncio.gather(*calls):
                crowd += dialogue.waits_s
            for pupil in range(first + CROWD, first + 2 * CROWD):
                alone += (await call(gateway.port, KEYS, caller=number_of(pupil), number=pupil)).waits_s
        held_mb = await _held(gateway, range(pupils - HELD, pupils))
    return _p99(crowd), _p99(alone), idle_mb, held_mb


async def _held(gateway: Served, pupils: range) -> float:
    """Resident memory while so many callers are at a question after their change."""
    hold = asyncio.Event()
    calls = [
        asyncio.create_task(call(gateway.port, KEYS, caller=number_of(pupil), number=pupil, hold=hold))
        for pupil in pupils
    ]
    held_mb = 0.0
    for _ in range(20):
        await asyncio.sleep(0.1)
        held_mb = max(held_mb, gateway.resident_mb())
    hold.set()
    await asyncio.gather(*calls)
    return held_mb


def _p99(waits_s: list[float]) -> float:
    return statistics.quantiles(waits_s, n=100)[round(SHARE * 100) - 1]
