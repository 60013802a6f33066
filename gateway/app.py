"""The hallway: builds every door and desk, runs them side by side, and closes them in order."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Protocol

from aiohttp import web

from core.clock import Reading, exactly
from core.desk import Undecided
from core.outcomes import Accepted
from gateway.asterisk import kept_secret
from gateway.call_log import CallLog
from gateway.clips import Clips
from gateway.closing import DayCloser
from gateway.files.load import Configuration
from gateway.files.watch import CalendarInForce, Edit, Refused, Removed, Swapped, TakenBack, TownsInForce, Unwatched
from gateway.installation import Installation, secrets_folder
from gateway.metrics import Metrics
from gateway.municipality import Municipality
from gateway.nodes import Nodes
from gateway.numbers import normalise_number
from gateway.post.opening import open_post
from gateway.post.worker import Post
from gateway.store.port import StoreError
from gateway.telephone import TownDesks, greeting_of, open_desks
from gateway.web.health import health_app, towns_health
from ivr.agi import AgiLimits, AgiLine, AgiServer, HungUpCall, IncomingCall
from ivr.ami import AmiLink
from ivr.calls import Step
from ivr.flow import complete, parents_line, receipts
from ivr.line import prompt
from ivr.pending import Pending

# A part that fails at once after each start is tried again ever more slowly, up to this.
RESTART_MOST_S = 30.0
# A monitor waits a few seconds for an answer; a store that takes longer than this is not well.
HEALTH_STORE_S = 2.0
# Of this many towns the log says which clips are missing: whoever reads it makes them for all at once.
WARNINGS_MAX = 10
# Between two towns that are looked over at the start, so that calls come first: a minute for 8,000.
WARNINGS_PAUSE_S = 0.005
# The last rows of the call log, and a web page that is being read.
STOP_S = 5.0


class Log(Protocol):
    """Where events go; a structlog logger fits."""

    def info(self, event: str, /, **fields: object) -> object: ...
    def warning(self, event: str, /, **fields: object) -> object: ...
    def error(self, event: str, /, **fields: object) -> object: ...


class Hallway:
    """One gateway. `run` serves until `stop` is set, then lets running calls end and closes every door."""

    def __init__(self, house: Installation, clips: Clips, log: Log, node: str | None = None) -> None:
        self._house, self._clips, self._log = house, clips, log
        # Two on one machine have two ports; where any free one is taken, the process tells them apart.
        self._node = node or f"{socket.gethostname()}:{house.settings.agi.port or os.getpid()}"
        self._metrics = Metrics()
        self._towns = TownsInForce(house.configuration, self._classes_in_use, self._on_edit)
        self._desks: dict[str, TownDesks] = {}
        # One for all towns, so that no day is closed while any call of this gateway could still change one (R25).
        self._undecided = Undecided()
        self._nodes = Nodes(self._node, house.store, self._undecided, self._reading, self._runs, log)
        self._closer = DayCloser(
            house.store,
            self._nodes,
            towns=lambda: [town.key for town in self._towns.municipalities],
            desks_of=self._desks_for_closing,
            clock_of=house.clock_of,
            now=house.now,
            log=log,
            metrics=self._metrics,
            on_order=self._wake_post,
        )
        self._call_log = CallLog(
            house.store,
            now=house.now,
            town_of=self._town_of,
            digest=lambda number: house.hasher.digest(f"caller:{number}"),
            log=log,
            metrics=self._metrics,
            node=self._node,
        )
        settings = house.settings
        self._agi = AgiServer(
            host=settings.agi.host,
            port=settings.agi.port,
            on_line=self._take_call,
            on_hungup=self._take_hungup,
            clips=clips.render,
            playing_s=clips.playing_s,
            log=log.info,
            limits=AgiLimits(sessions_max=settings.agi.sessions_max),
        )
        self._ami = self._ami_link(house.configuration) if settings.ami.enabled else None
        self._metrics.watch("agi_sessions", "Calls that this gateway guides", lambda: self._agi.sessions)
        self._metrics.watch("nodes", "Gateways on this database that were seen lately", lambda: len(self._nodes.lately))
        self._metrics.watch("ami_connected", "Whether Asterisk tells of its calls", lambda: int(self._hears_asterisk()))
        self._post: Post | None = None
        self._is_ready = False

    async def run(self, stop: asyncio.Event, on_ready: Callable[[], None] = lambda: None) -> None:
        """Serve. Raises OSError when a port is taken, `ClipsMissingError` when a clip is missing."""
        house, settings = self._house, self._house.settings
        self._clips.check(language for town in self._towns.municipalities for language in town.languages)
        for key, mistakes in house.configuration.broken.items():
            for mistake in mistakes:
                self._log.error("town_not_served", town=key, mistake=str(mistake))
        await house.clock.measure()
        runner = web.AppRunner(
            health_app(self._health, lambda: self._is_ready, self._metrics.text, self._nodes.shown, self._towns),
            access_log=None,
        )
        await runner.setup()
        parts = [
            self._kept_up("clock", lambda: house.clock.run(self._clock_limits)),
            self._kept_up("calendars", self._towns.watch),
            self._kept_up("warnings", self._warn),
            self._kept_up("call_log", self._call_log.run),
            self._kept_up("nodes", self._nodes.run),
            self._kept_up("post", self._carry_post),
        ]
        if self._ami is not None:
            parts.append(self._kept_up("ami", self._ami.run))
        tasks: list[asyncio.Task[None]] = []
        try:
            await web.TCPSite(runner, settings.web.host, settings.web.port).start()
            await self._agi.start()
            closings = asyncio.create_task(self._kept_up("closings", self._closer.run))
            tasks = [closings, *(asyncio.create_task(part) for part in parts)]
            self._is_ready = True
            self._log.info("gateway_ready", node=self._node, towns=len(self._towns.municipalities))
            on_ready()
            await stop.wait()
            self._is_ready = False
            self._log.info("gateway_draining", calls=self._agi.sessions, seconds=settings.drain.seconds)
            await self._agi.drain(settings.drain.seconds)
        finally:
            self._is_ready = False
            await self._agi.close()
            if tasks:
                await self._leave(tasks[0])
            else:
                for part in parts:
                    part.close()
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks, timeout=STOP_S)
            await runner.cleanup()
        self._log.info("gateway_stopped", node=self._node)

    # The telephone

    async def _take_call(self, line: AgiLine, call: IncomingCall) -> None:
        caller = normalise_number(call.caller) if call.caller else None
        dialled = normalise_number(call.dialled)
        journal = self._call_log.taken(call.uniqueid, dialled=dialled or "", caller=caller, language=call.language)
        in_force = self._towns.reached_by(dialled) if dialled else None
        if in_force is None:
            await line.say(prompt("number-not-in-service"))
            return
        desks = self._desks_of(in_force)
        town = in_force.municipality
        try:
            word = await parents_line(
                line,
                journal,
                greeting_of(town),
                desks.for_calls(self._house.clock_of(town)),
                caller,
                call.uniqueid,
            )
        except Exception as fault:
            journal.note(Step.FAULT, fault=type(fault).__name__)
            raise
        journal.note(Step.FINISHED, outcome=word)

    async def _take_hungup(self, call: HungUpCall) -> Sequence[str]:
        pending = Pending.parse(call.request)
        in_force = self._towns.calendar(pending.town)
        if in_force is None:
            raise LookupError(
                f"hungup: the request is for town {pending.town!r}, which is not served; nothing was stored"
            )
        desks = self._desks_of(in_force)
        reading = self._house.clock_of(in_force.municipality).read()
        # A day whose cutoff passes while the pupils are still being looked up waits for this request too (R25).
        with desks.booking.deciding(pending.decided(reading)):
            completed = await complete(pending, desks.booking, desks.store.pupils, reading)
        journal = self._call_log.journal(call.uniqueid)
        for pupil, outcome in completed:
            receipt = outcome.change.receipt if isinstance(outcome, Accepted) else None
            journal.note(Step.COMPLETED, pupil=pupil, outcome=outcome.word, receipt=receipt)
        return receipts([outcome for _, outcome in completed])

    def _desks_of(self, in_force: CalendarInForce) -> TownDesks:
        key = in_force.municipality.key
        if key not in self._desks:
            house = self._house
            self._desks[key] = open_desks(lambda: in_force.municipality, house.store, house.hasher, self._undecided)
        return self._desks[key]

    def _desks_for_closing(self, key: str) -> TownDesks | None:
        in_force = self._towns.calendar(key)
        return self._desks_of(in_force) if in_force else None

    def _town_of(self, number: str) -> str | None:
        in_force = self._towns.reached_by(number)
        return in_force.municipality.key if in_force else None

    def _ami_link(self, configuration: Configuration) -> AmiLink:
        ami = configuration.settings.ami
        secret = kept_secret(secrets_folder(configuration) / ami.secret_file)
        return AmiLink(ami.host, ami.port, ami.user, secret, self._call_log.on_ami, self._log)

    def _hears_asterisk(self) -> bool:
        return self._ami is not None and self._ami.connected

    # The calendars

    async def _classes_in_use(self, town: Municipality) -> Mapping[tuple[str, str], int]:
        return await self._house.store.at(town.key).class_sizes()

    def _on_edit(self, edit: Edit) -> None:
        match edit:
            case Swapped(before, after):
                self._closer.edited(after.key)
                self._log.info("calendar_in_force", town=after.key, is_new=before is None)
            case Refused(key, mistakes):
                for mistake in mistakes:
                    self._log.error("calendar_refused", town=key, mistake=str(mistake), holds="the calendar before it")
            case TakenBack(town):
                self._log.info("calendar_edit_taken_back", town=town.key)
            case Removed(town):
                self._log.info("town_removed", town=town.key)
            case Unwatched(why, seconds):
                self._log.warning(
                    "edits_not_told", why=why, holds=f"they are looked for, and found within {seconds:.0f} s"
                )

    # The nodes

    def _reading(self) -> Reading:
        """The time by the town that doubts it most: none of the others' requests is decided before its `earliest`."""
        towns = self._towns.municipalities
        if not len(towns):
            return exactly(self._house.now())
        return self._house.clock_of(max(towns, key=lambda town: town.clock_bound_max)).read()

    def _runs(self) -> tuple[str, int]:
        towns = self._towns.municipalities
        return towns.digest, len(towns)

    async def _leave(self, closings: "asyncio.Task[None]") -> None:
        """Finish the closings under way; then no cutoff has to wait for this gateway any more."""
        self._closer.stop()
        await asyncio.wait({closings}, timeout=STOP_S)
        try:
            async with asyncio.timeout(STOP_S):
                await self._nodes.leave()
        except (StoreError, TimeoutError, OSError) as fault:
            self._log.warning("node_not_left", node=self._node, fault=f"{type(fault).__name__}: {fault}")

    # The post

    async def _carry_post(self) -> None:
        self._post = await open_post(self._house, self._town_in_force, self._log)
        await self._post.run()

    def _wake_post(self) -> None:
        if self._post is not None:
            self._post.wake()

    def _town_in_force(self, key: str) -> Municipality | None:
        in_force = self._towns.calendar(key)
        return in_force.municipality if in_force else None

    # How we are

    def _clock_limits(self) -> Mapping[str, timedelta]:
        by_limit: dict[timedelta, list[str]] = {}
        for town in self._towns.municipalities:
            by_limit.setdefault(town.clock_bound_max, []).append(town.key)
        # One line in the log for all that share a limit.
        return {
            keys[0] if len(keys) == 1 else f"towns with bound_max_ms {limit // timedelta(milliseconds=1)}": limit
            for limit, keys in by_limit.items()
        }

    async def _health(self) -> Mapping[str, str | None]:
        parts: dict[str, str | None] = {"store": await self._store_fault(), "telephone": None, "clock": None}
        parts |= self._nodes.health()
        addresses = any(town.kitchen is not None and town.kitchen.email for town in self._towns.municipalities)
        parts["post"] = self._post.wrong(addresses) if self._post is not None else "it has not begun yet; orders wait"
        if self._ami is not None and not self._ami.connected:
            parts["telephone"] = "Asterisk's event link is down; calls are served, their log waits for it"
        for limit in {town.clock_bound_max for town in self._towns.municipalities}:
            state = self._house.clock.state(limit)
            if not state.reading.synchronised:
                parts["clock"] = f"unsynchronised: {state.why}; changes near a boundary are marked for review"
        return {**parts, **towns_health(self._towns)}

    async def _store_fault(self) -> str | None:
        try:
            async with asyncio.timeout(HEALTH_STORE_S):
                await self._house.store.get_setting("purpose")
        except (StoreError, TimeoutError, OSError) as fault:
            return f"{type(fault).__name__}: callers hear that nothing was changed"
        return None

    async def _warn(self) -> None:
        """Say once what callers would miss, town after town beside the calls: there may be millions of pupils."""
        without_clips = 0
        for town in self._towns.municipalities:
            without_clips += await self._warn_of_missing_clips(town, without_clips < WARNINGS_MAX)
            await self._warn_of_lost_pupils(town)
            await asyncio.sleep(WARNINGS_PAUSE_S)
        if without_clips > WARNINGS_MAX:
            self._log.warning("clips_missing", towns=without_clips, told=WARNINGS_MAX, make="mensa sounds town")
        self._log.info("towns_looked_over", towns=len(self._towns.municipalities), without_clips=without_clips)

    async def _warn_of_missing_clips(self, town: Municipality, is_told: bool) -> bool:
        names = await self._house.store.at(town.key).first_names()
        missing = await asyncio.to_thread(lambda: list(self._clips.missing_of(town, names)))
        for clip in missing if is_told else ():
            self._log.warning("clip_missing", town=town.key, clip=clip, make="mensa sounds town")
        return bool(missing)

    async def _warn_of_lost_pupils(self, town: Municipality) -> None:
        """An edit made while no gateway watched may have taken away class groups that pupils are in."""
        classes = town.town.calendar.classes
        lost = sum(count for place, count in (await self._classes_in_use(town)).items() if place not in classes)
        if lost:
            self._log.warning(
                "pupils_without_class_group",
                town=town.key,
                pupils=lost,
                expected="their classes in schools.yaml, or their new ones by mensa people import",
                holds="they have no service on any day",
            )

    async def _kept_up(self, name: str, part: Callable[[], Awaitable[None]]) -> None:
        """Run a part of the house; a fault in it stops nothing else, and it is started again."""
        wait_s = 1.0
        while True:
            try:
                await part()
                return
            except Exception as fault:
                self._log.error("part_failed", part=name, again_in_s=wait_s, exc_info=fault)
            await asyncio.sleep(wait_s)
            wait_s = min(RESTART_MOST_S, wait_s * 2)
