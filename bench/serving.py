"""Gateways for benchmarks, each a process of its own: a real `mensa serve`, and a stock panoramisk that knows no rules."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gateway.asterisk import kept_secret
from gateway.audio import PHONE_HZ
from gateway.files.load import Configuration, load_configuration
from gateway.files.phrases import phrases_folder, read_catalogues
from gateway.installation import REHEARSAL, move_clock, open_installation
from gateway.rehearsal import read_town
from ivr.spoken import required_clips

HOUSE = Path(__file__).parents[1]
TOWN = "roccachiara"
# An evening on which every pupil has a next service day, and the line is open for hours.
EVENING = datetime(2026, 11, 22, 17, 30, tzinfo=UTC)
# Python and a look at the clips, on a machine that others use too.
STARTS_S = 60.0
STOPS_S = 10.0


@dataclass(frozen=True, slots=True)
class Served:
    """A gateway that serves."""

    port: int
    pid: int

    def cpu_s(self) -> float:
        """The seconds of CPU that it has used so far, all threads."""
        tasks = Path(f"/proc/{self.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9

    def resident_mb(self) -> float:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


@contextlib.asynccontextmanager
async def our_gateway(folder: Path, pupils: int, *, port: int = 0, ami_port: int = 0) -> AsyncIterator[Served]:
    """`mensa serve` with a town of so many pupils, each with a guardian whose number is recognised.

    It hears Asterisk only where `ami_port` is given; it then needs `ami_secret(folder)`.
    """
    config = folder / "config"
    await asyncio.to_thread(_town, config, pupils)
    await asyncio.to_thread(silent_clips, folder / "sounds")
    configuration = load_configuration(config)
    assert isinstance(configuration, Configuration), configuration
    async with open_installation(configuration, purpose=REHEARSAL, makes_database=True) as house:
        await house.store.at(TOWN).import_people(read_town(config, TOWN)[1], house.hasher, lambda: "0000")
        await move_clock(house.store, EVENING - datetime.now(UTC))
    async with gateway_at(config, folder / "sounds", folder / "ours.log", port=port, ami_port=ami_port) as served:
        yield served


@contextlib.asynccontextmanager
async def gateway_at(
    config: Path, sounds: Path, log: Path, *, port: int = 0, ami_port: int = 0, starts_s: float = STARTS_S, **more: str
) -> AsyncIterator[Served]:
    """`mensa serve` on an installation as it stands; `more` are settings by their names in the environment."""
    port = port or free_port()
    environment = {
        **os.environ,
        "PYTHONPATH": str(HOUSE),
        "MENSA_SOUNDS": str(sounds),
        "MENSA_AGI__PORT": str(port),
        "MENSA_WEB__PORT": "0",
        "MENSA_AMI__ENABLED": str(bool(ami_port)).lower(),
        "MENSA_AMI__PORT": str(ami_port),
        "MENSA_LOG__JSON_LINES": "true",
        "MENSA_LOG__LEVEL": "info",
        **more,
    }
    arguments = ("-m", "gateway.cli", "serve", "--config", str(config))
    async with _process(arguments, environment, log, "gateway_ready", starts_s) as pid:
        yield Served(port, pid)


@contextlib.asynccontextmanager
async def stock_panoramisk(folder: Path, commands: Sequence[str]) -> AsyncIterator[Served]:
    """panoramisk as it comes, on uvloop: it sends `commands` to every call, and knows nothing."""
    port = free_port()
    script = folder / "commands.json"
    script.write_text(json.dumps(commands))
    environment = {**os.environ, "PYTHONPATH": str(HOUSE)}
    arguments = ("-m", "bench.stock", str(port), str(script))
    async with _process(arguments, environment, folder / "stock.log", "serving") as pid:
        yield Served(port, pid)


def ami_secret(folder: Path) -> str:
    """What Asterisk and the gateway of this folder know each other by."""
    return kept_secret(folder / "var" / "secrets" / "ami.secret")


def changes_in(folder: Path) -> int:
    """How many changes the gateway of this folder has stored: each call is to make one, or it was not measured."""
    with closing(sqlite3.connect(folder / "var" / "mensa.db")) as database:
        count: int = database.execute("SELECT count(*) FROM changes").fetchone()[0]
        return count


def number_of(pupil: int) -> str:
    """The number that is recognised as this pupil's family."""
    return f"+39035{pupil:07}"


@contextlib.asynccontextmanager
async def _process(
    arguments: Sequence[str], environment: dict[str, str], log: Path, ready: str, starts_s: float = STARTS_S
) -> AsyncIterator[int]:
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=out, stderr=out, env=environment
        )
    try:
        async with asyncio.timeout(starts_s):
            while ready not in _text(log):
                assert process.returncode is None, f"{' '.join(arguments)}: {_text(log)[-2000:]}"
                await asyncio.sleep(0.05)
        yield process.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), STOPS_S)
        except TimeoutError:
            process.kill()
            await process.wait()


def _text(log: Path) -> str:
    return log.read_text(encoding="utf-8")


def _town(config: Path, pupils: int) -> None:
    shutil.copytree(HOUSE / "config", config)
    rows = (f"{number:05},Anna,primaria,1A,{number_of(number)},yes" for number in range(pupils))
    people = "\n".join(("user_code,pupil_name,school,class,guardian_phone,recognise_number", *rows)) + "\n"
    (config / "municipalities" / TOWN / "people.csv").write_text(people)


def silent_clips(folder: Path) -> None:
    """A second of silence for every clip: nobody listens."""
    folder.mkdir(mode=0o755, exist_ok=True)
    for language, catalogue in read_catalogues(phrases_folder()).items():
        for clip in required_clips(catalogue):
            path = folder / language / f"{clip.name}.alaw"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes([0xD5]) * PHONE_HZ)


def free_port() -> int:
    """A TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
