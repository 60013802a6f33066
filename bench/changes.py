"""Durable changes a second through the store over PostgreSQL, from one and two processes with 64 waiting callers each.

The reference is pgbench on the same server, as many clients, each inserting one row of the same width into a table with the
same indexes and committing it. Server, gateways and pgbench share this machine's cores, so the bound is CPU, not the disk.
"""

import asyncio
import json
import math
import os
import re
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import asyncpg

from bench.changer import Work
from bench.province import Province, province, size
from bench.result import Result
from bench.serving import HOUSE
from bench.usage import family_cpu_s, process_cpu_s

CALLERS = 64
PROCESSES = (1, 2)
ROUNDS = 3
ROUND_S = 3.0
# A round changes so many different pupils before it comes to the first again.
PUPILS = 20_000
GOAL = 0.5
# As wide as a change by phone: a request's key is 32 digits, a call's id some 15.
SCRIPT = """\\set municipality random(1, {towns})
\\set pupil random(1, {pupils})
\\set number random(1, 1000000000000000000)
INSERT INTO bare_change (municipality, pupil, kind, first_day, last_day, receipt, request, channel, guardian, session,
decided_earliest, decided_latest, decided_source, decided_synchronised, review) VALUES (:municipality, :pupil, 'cancel',
'2026-11-24', '2026-11-24', :number, 'a-request-key-' || :number, 'phone', NULL, 'call', 1795368600000000, 1795368600000000,
'kernel', true, false);
"""
# The indexes and the numbering of the table of changes; no triggers, no references, no rules of who sees what.
BARE_TABLE = """CREATE TABLE bare_change (LIKE changes INCLUDING DEFAULTS INCLUDING IDENTITY INCLUDING INDEXES);
GRANT ALL ON bare_change TO PUBLIC"""


@dataclass(frozen=True, slots=True)
class Round:
    """Changes a second, and the cores that the processes making them and the server used."""

    rate: float
    processes: float
    server: float


def measure() -> list[Result]:
    with province(size(), changes=True) as whole:
        found = asyncio.run(compare(whole))
    return [
        Result(
            "changes",
            f"durable changes from {processes} process{'es' if processes > 1 else ''}, {CALLERS} callers waiting at each",
            f"pgbench with {processes * CALLERS} clients inserting as wide a row with as many indexes, one a commit",
            statistics.median(each.rate for each in ours),
            statistics.median(each.rate for each in bare),
            "changes/s",
            GOAL,
            "higher",
            f"CPU of a change: ours {_us(ours, 'processes')} and the server {_us(ours, 'server')} us; "
            f"pgbench {_us(bare, 'processes')} and the server {_us(bare, 'server')} us",
        )
        for processes, (ours, bare) in found.items()
    ]


def _us(rounds: Sequence[Round], whose: str) -> str:
    return f"{statistics.median(getattr(each, whose) / each.rate for each in rounds) * 1e6:.0f}"


async def compare(
    whole: Province, rounds: int = ROUNDS, round_s: float = ROUND_S, callers: int = CALLERS
) -> dict[int, tuple[list[Round], list[Round]]]:
    """The rounds of ours and of the reference, by the count of processes."""
    found: dict[int, tuple[list[Round], list[Round]]] = {number: ([], []) for number in PROCESSES}
    connection = await asyncpg.connect(whole.admin_url)
    await connection.execute(BARE_TABLE)
    pupils = await connection.fetch(
        "SELECT key, school, pupils.id FROM pupils JOIN municipalities ON municipalities.id = municipality "
        "ORDER BY md5(pupils.id::text) LIMIT $1",
        PUPILS,
    )
    await connection.close()
    async with AsyncExitStack() as stack:
        changers = [
            await stack.enter_async_context(
                _changer(whole.url, Work(f"changer-{number}", callers, [tuple(each) for each in pupils[number::2]]))
            )
            for number in range(max(PROCESSES))
        ]
        for _ in range(rounds):
            for processes, (ours, bare) in found.items():
                ours.append(await _round(whole, changers[:processes], round_s))
                bare.append(await _bare_round(whole, processes * callers, round_s))
    return found


@asynccontextmanager
async def _changer(url: str, work: Work) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.changer", url),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=HOUSE,
    )  # fmt: skip
    assert process.stdin
    assert process.stdout
    try:
        process.stdin.write(json.dumps(asdict(work)).encode() + b"\n")
        assert await process.stdout.readline() == b"ready\n"
        yield process
    finally:
        process.stdin.close()
        await process.wait()


async def _round(whole: Province, changers: Sequence[asyncio.subprocess.Process], round_s: float) -> Round:
    def spent() -> tuple[float, float]:
        return sum(process_cpu_s(each.pid) for each in changers), family_cpu_s(whole.server_pid)

    before = spent()
    answers = await asyncio.gather(*(_go_on(each, round_s) for each in changers))
    ours, server = (now - then for now, then in zip(spent(), before, strict=True))
    seconds = max(seconds for _, seconds in answers)
    return Round(sum(done for done, _ in answers) / seconds, ours / seconds, server / seconds)


async def _go_on(changer: asyncio.subprocess.Process, round_s: float) -> tuple[int, float]:
    assert changer.stdin
    assert changer.stdout
    changer.stdin.write(f"{round_s}\n".encode())
    done, seconds = json.loads(await changer.stdout.readline())
    return done, seconds


async def _bare_round(whole: Province, clients: int, round_s: float) -> Round:
    # pgbench counts whole seconds.
    seconds = math.ceil(round_s)
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "insert.sql"
        script.write_text(SCRIPT.format(towns=whole.size.towns, pupils=whole.size.pupils))
        server, pgbench = family_cpu_s(whole.server_pid), os.times()
        process = await asyncio.create_subprocess_exec(
            *(str(whole.cluster.binaries / "pgbench"), "-n", "-M", "prepared", "-f", str(script), "-T", str(seconds)),
            *("-c", str(clients), "-j", "2", "-h", whole.cluster.host, "-p", str(whole.cluster.port)),
            *("-U", "mensa", whole.url.rpartition("/")[2]),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        told = (await process.communicate())[0].decode()
        now = os.times()
        used = now.children_user + now.children_system - pgbench.children_user - pgbench.children_system
        server = family_cpu_s(whole.server_pid) - server
    rate = re.search(r"^tps = ([\d.]+)", told, re.MULTILINE)
    assert rate is not None, told
    return Round(float(rate[1]), used / seconds, server / seconds)
