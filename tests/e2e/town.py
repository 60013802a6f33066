"""A whole town on this machine for tests: its data, real gateways as processes of their own, and what its store says.

async with open_town(tmp_path, sounds) as town:
    gateway = await town.serve()                                   # `mensa serve`, up when it says so
    pbx = await asterisk((gateway.port, town.agi_ports[1]), **town.asterisk())
    …
    assert await town.presence("50004", MONDAY) is Presence.CANCELLED
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from core.changes import Change, Presence
from core.ports import Refusal
from gateway.asterisk import kept_secret
from gateway.call_records import Wanted, records
from gateway.files.load import Configuration, load_configuration
from gateway.installation import REHEARSAL, Installation, database_url, move_clock, open_installation, secrets_folder
from gateway.rehearsal import local_instant, read_town
from gateway.store.engine import open_store
from gateway.store.port import CallEventFilter, CallEventRow
from ivr.calls import CallRecord

HOUSE = Path(__file__).parents[2]
TOWN = "roccachiara"
# Sunday evening of the example town; the first useful day of those who eat on Mondays is the next day.
EVENING = "2026-11-22T18:30:00"
NOON = "2026-11-23T12:00:00"
MONDAY = date(2026, 11, 23)
# Python, Alembic and the first look at the clips, on a machine that others use too.
STARTS_S = 90.0
STOPS_S = 20.0
# The last notes of a call are stored within a second; a gateway that was killed has to come back first.
RECORDED_S = 40.0


def free_tcp_port() -> int:
    """A TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(slots=True)
class Gateway:
    """One `mensa serve`; `log` is the file of its log lines."""

    process: asyncio.subprocess.Process
    port: int
    web_port: int
    log: Path

    def kill(self) -> None:
        """`kill -9`."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    def send_signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def stop(self) -> None:
        """SIGTERM, and wait until it is gone."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                await asyncio.wait_for(self.process.wait(), STOPS_S)
            except TimeoutError:
                self.kill()
        await self.process.wait()

    def lines(self, event: str | None = None) -> list[dict[str, Any]]:
        """The log's lines, those of one event or all."""
        found = []
        for line in self.log.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return [each for each in found if event is None or each.get("event") == event]

    async def wait_for(self, event: str, times: int = 1, timeout_s: float = 20.0) -> None:
        """Return when the log has `event` that many times; AssertionError after `timeout_s`."""
        for _ in range(int(timeout_s / 0.05)):
            if len(self.lines(event)) >= times:
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"no {event} in {self.log}: {self.log.read_text(encoding='utf-8')[-3000:]}")

    async def hears_asterisk(self) -> None:
        """Return when the gateway is told of Asterisk's calls."""
        await self.wait_for("ami_connected")

    async def health(self) -> dict[str, Any]:
        def ask() -> dict[str, Any]:
            with urlopen(f"http://127.0.0.1:{self.web_port}/health", timeout=5) as answer:
                document: dict[str, Any] = json.load(answer)
                return document

        return await asyncio.to_thread(ask)


@dataclass(slots=True)
class TownOnDisk:
    """One town's folder, database and ports; every gateway it starts is stopped when it is closed."""

    folder: Path
    configuration: Configuration
    sounds: Path
    agi_ports: tuple[int, int] = field(default_factory=lambda: (free_tcp_port(), free_tcp_port()))
    ami_port: int = field(default_factory=free_tcp_port)
    gateways: list[Gateway] = field(default_factory=list)

    @property
    def config(self) -> Path:
        return self.configuration.folder

    def asterisk(self) -> dict[str, Any]:
        """What the `asterisk` fixture is to be told, so that Asterisk and the gateways know each other."""
        ami = self.configuration.settings.ami
        secret = kept_secret(secrets_folder(self.configuration) / ami.secret_file)
        return {"sounds": self.sounds, "ami_port": self.ami_port, "ami_secret": secret, "ami_user": ami.user}

    def environment(self, agi_port: int, web_port: int, **more: str) -> dict[str, str]:
        return {
            **os.environ,
            "PYTHONPATH": str(HOUSE),
            "MENSA_SOUNDS": str(self.sounds),
            "MENSA_AGI__PORT": str(agi_port),
            "MENSA_AMI__PORT": str(self.ami_port),
            "MENSA_WEB__PORT": str(web_port),
            "MENSA_LOG__JSON_LINES": "true",
            **more,
        }

    async def serve(self, number: int = 0, **more: str) -> Gateway:
        """Start `mensa serve` on one of the two FastAGI ports; it is up when this returns."""
        port, web_port = self.agi_ports[number], free_tcp_port()
        log = self.folder / f"gateway-{len(self.gateways)}.log"
        with log.open("wb") as out:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "gateway.cli", "serve", "--config", str(self.config),
                stdin=asyncio.subprocess.DEVNULL, stdout=out, stderr=out, cwd=self.folder,
                env=self.environment(port, web_port, **more),
            )  # fmt: skip
        gateway = Gateway(process, port, web_port, log)
        self.gateways.append(gateway)
        await gateway.wait_for("gateway_ready", timeout_s=STARTS_S)
        return gateway

    async def mensa(self, *arguments: str) -> tuple[int, str, str]:
        """Run a `mensa` command on this town: its exit code, output and messages."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway.cli", *arguments, "--config", str(self.config),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            cwd=self.folder, env=self.environment(0, 0),
        )  # fmt: skip
        out, err = await asyncio.wait_for(process.communicate(), STARTS_S)
        return process.returncode or 0, out.decode(), err.decode()

    @contextlib.asynccontextmanager
    async def house(self) -> AsyncIterator[Installation]:
        async with open_installation(self.configuration) as house:
            yield house

    async def set_clock(self, local: str) -> None:
        """Let the town's clock show `local` time now; gateways that are up keep theirs."""
        town = self.configuration.municipalities.named(TOWN)
        assert town is not None
        async with self.house() as house:
            instant = local_instant(datetime.fromisoformat(local), town.timezone)
            await move_clock(house.store, instant - datetime.now(UTC))

    async def presence(self, code: str, day: date) -> Presence:
        async with self.house() as house:
            town = house.configuration.municipalities.named(TOWN)
            assert town is not None
            desks = house.desks_of(town)
            pupil = await desks.pupil(code)
            assert pupil is not None, code
            [found] = await desks.booking.presences(pupil, day, day)
            return found.presence

    async def changes(self, code: str) -> Sequence[Change]:
        store = await open_store(database_url(self.configuration))
        try:
            town = store.at(TOWN)
            pupil = next(each for each in await town.all_pupils() if each.user_code == code)
            return (await town.histories([pupil.id]))[pupil.id]
        finally:
            await store.close()

    async def everybody(self, day: date) -> Mapping[str, tuple[Presence, Sequence[Change]]]:
        """Each pupil's presence on `day` and changes, by user code."""
        async with self.house() as house:
            town = house.configuration.municipalities.named(TOWN)
            assert town is not None
            desks = house.desks_of(town)
            pupils = await desks.store.all_pupils()
            histories = await desks.store.histories([pupil.id for pupil in pupils])
            days = [(await desks.booking.presences(pupil, day, day))[0] for pupil in pupils]
            return {
                pupil.user_code: (found.presence, histories[pupil.id])
                for pupil, found in zip(pupils, days, strict=True)
            }

    async def calls(self) -> Mapping[str, CallRecord]:
        """The records of all calls, by Asterisk's name for the call."""
        async with self.house() as house:
            return {record.call: record for record in await records(house.store, Wanted())}

    async def refusals(self, code: str) -> Sequence[Refusal]:
        store = await open_store(database_url(self.configuration))
        try:
            town = store.at(TOWN)
            pupil = next(each for each in await town.all_pupils() if each.user_code == code)
            return await town.refusals(pupil.id)
        finally:
            await store.close()

    async def call_from(self, number: str, times: int = 1) -> CallRecord:
        """The record of the latest call from `number` (E.164), once `times` of its calls are over and told whole."""
        async with self.house() as house:
            digest = house.hasher.digest(f"caller:{number}")
            for _ in range(int(RECORDED_S / 0.2)):
                over = [each for each in await records(house.store, Wanted(number_digest=digest)) if each.ended]
                if len(over) >= times and over[-1].outcome is not None and over[-1].cause is not None:
                    return over[-1]
                await asyncio.sleep(0.2)
        raise AssertionError(f"{times} calls from {number} were not over within {RECORDED_S} s, but {over}")

    async def call_events(self, wanted: Mapping[str, Any] | None = None) -> Sequence[CallEventRow]:
        store = await open_store(database_url(self.configuration))
        try:
            return await store.call_events(0, CallEventFilter(**(wanted or {})))
        finally:
            await store.close()


@contextlib.asynccontextmanager
async def open_town(
    folder: Path, sounds: Path, at: str = EVENING, *, people: str | None = None
) -> AsyncIterator[TownOnDisk]:
    """A copy of the example town with its people enrolled and its clock at `at`; `people` is another people.csv."""
    config = folder / "config"
    shutil.copytree(HOUSE / "config", config)
    if people is not None:
        (config / "municipalities" / TOWN / "people.csv").write_text(people, encoding="utf-8")
    configuration = load_configuration(config)
    assert isinstance(configuration, Configuration)
    _, everybody = read_town(config, TOWN)
    async with open_installation(configuration, purpose=REHEARSAL, makes_database=True) as house:
        await house.store.at(TOWN).import_people(everybody, house.hasher, lambda: "0000")
    town = TownOnDisk(folder, configuration, sounds)
    await town.set_clock(at)
    try:
        yield town
    finally:
        for gateway in town.gateways:
            await gateway.stop()
