"""`make run`: the example town on this machine, with fresh data, a clock that begins in the evening, and its own Asterisk."""

import asyncio
import contextlib
import dataclasses
import fcntl
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from rich.console import Console
from rich.markup import escape

from core.access import Actor
from core.desk import Request, Suspend
from core.people import People
from core.window import Channel
from gateway.app import Hallway, Log
from gateway.asterisk import (
    AsteriskFailed,
    RunningAsterisk,
    asterisk_root,
    dialled_forms,
)
from gateway.clips import read_clips
from gateway.files.load import Configuration
from gateway.files.people import read_people
from gateway.files.phrases import phrases_folder, read_catalogues
from gateway.installation import (
    LAST_INSTANT,
    PURPOSE,
    REHEARSAL,
    Installation,
    asterisk_settings,
    database_url,
    has_database,
    home,
    move_clock,
    open_installation,
    rehearsal_offset,
    sounds_folder,
)
from gateway.municipality import Municipality
from gateway.opening import eve_of_service, recognised
from gateway.post.delivery import forget_mails
from gateway.post.opening import REHEARSAL_FOLDER
from gateway.rehearsal import SkippedTimeError, TownMistakesError, cooks_of, local_instant, parse_instant
from gateway.store.engine import database_path, open_store, postgres_address
from gateway.store.port import StoreError
from gateway.town_clips import make_clips, summary

# How much of a rehearsal's time a `kill -9` may lose to the next `KEEP=1`.
HEARTBEAT_S = 5.0
NOW = "now"
# The example's suspended pupil, so that there is something to resume; without it the town has nobody suspended.
SUSPENDED_CODE = "50015"


class DemonstrationFailed(Exception):  # noqa: N818 - it names what happened
    """`make run` cannot start; the message says what to do."""


class Demonstration:
    """One `make run`, from preparing its data to putting everything away."""

    def __init__(self, configuration: Configuration, console: Console, log: Log) -> None:
        if not configuration.municipalities:
            raise DemonstrationFailed(f"{configuration.folder}: no town can be served; see mensa calendar check")
        self._configuration, self._console, self._log = configuration, console, log
        self._towns = tuple(configuration.municipalities)

    async def run(self, at: str | None, keep: bool, stop: asyncio.Event) -> None:
        """Prepare, serve until `stop`, put away. Raises `DemonstrationFailed` and what `Hallway.run` raises."""
        with self._alone():
            await self._run_alone(at, keep, stop)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Two at once would take each other's data away."""
        lock = home(self._configuration.folder) / "var" / "run.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        with lock.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DemonstrationFailed(
                    f"{lock}: another make run is up in this folder; end it first (Ctrl-C)"
                ) from None
            yield

    async def _run_alone(self, at: str | None, keep: bool, stop: asyncio.Event) -> None:
        start = self._wanted_start(at)
        keeps = keep and has_database(self._configuration)
        if not keeps:
            await self._forget()
        async with open_installation(self._configuration, purpose=REHEARSAL, makes_database=True) as house:
            await self._set_clock(house, start, keeps)
            if not keeps:
                # This installation was opened with the clock as it stood before.
                await self._enrol(dataclasses.replace(house, offset=await rehearsal_offset(house.store)))
            await self._make_clips(house, stop)
        if stop.is_set():
            return
        async with self._asterisk() as (asterisk, why_none):
            configuration = self._configuration if asterisk else _without_ami(self._configuration)
            async with open_installation(configuration) as house:
                await self._serve(house, asterisk, why_none, stop)

    async def _serve(
        self, house: Installation, asterisk: RunningAsterisk | None, why_none: str, stop: asyncio.Event
    ) -> None:
        clips = read_clips(sounds_folder(house.settings), read_catalogues(phrases_folder()))
        hallway = Hallway(house, clips, self._log)
        beats = asyncio.create_task(self._heartbeat(house))
        watch = asyncio.create_task(self._watch(asterisk, stop)) if asterisk else None
        try:
            await hallway.run(stop, lambda: self._print_banner(house, why_none))
        finally:
            for task in filter(None, (beats, watch)):
                task.cancel()
            await house.store.set_setting(LAST_INSTANT, house.now().isoformat())

    # Data and clock

    async def _forget(self) -> None:
        """Remove the last run's data; never a database that is not a rehearsal's."""
        if not has_database(self._configuration):
            return
        url = database_url(self._configuration)
        address = postgres_address(url)
        if address is not None:
            raise DemonstrationFailed(
                f"{address.shown}: make run begins by deleting its database, which it does with a file alone; nothing was done. "
                "Use a database.url such as sqlite:///var/mensa.db, or `mensa serve`"
            )
        store = await open_store(url)
        try:
            await store.migrate()
            purpose = await store.get_setting(PURPOSE)
        finally:
            await store.close()
        path = database_path(url)
        if purpose != REHEARSAL:
            raise DemonstrationFailed(
                f"{path}: this database is not a rehearsal's, and make run would begin by deleting it; nothing was done. "
                "Use another configuration folder or another database.url"
            )
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        # The next run's orders begin at 1 again.
        for town in self._towns:
            forget_mails(home(self._configuration.folder) / REHEARSAL_FOLDER, town.key)

    async def _set_clock(self, house: Installation, start: datetime | str | None, keeps: bool) -> None:
        now = datetime.now(UTC)
        last = await house.store.get_setting(LAST_INSTANT)
        match start:
            case datetime():
                offset = start - now
            case str():
                offset = timedelta(0)
            case None if keeps and last is not None:
                offset = datetime.fromisoformat(last) - now
            case None:
                offset = eve_of_service(self._towns, now) - now
        await move_clock(house.store, offset)

    def _wanted_start(self, at: str | None) -> datetime | str | None:
        """Judged before anything of the last run is put away."""
        if at is None or at == NOW:
            return at
        try:
            return local_instant(parse_instant(at).wall, self._towns[0].timezone)
        except (SkippedTimeError, ValueError) as error:
            raise DemonstrationFailed(f"AT: {error}; or AT=now for the real clock") from error

    async def _enrol(self, house: Installation) -> None:
        for town in self._towns:
            if town.people_file is None:
                continue
            people = await asyncio.to_thread(read_people, town.people_file, town)
            if not isinstance(people, People):
                raise DemonstrationFailed("\n".join(map(str, people)))
            desks = house.desks_of(town)
            digits = town.pin_digits
            await desks.store.import_people(people, house.hasher, lambda: f"{secrets.randbelow(10**digits):0{digits}}")  # noqa: B023
            await self._enrol_cooks(house, town, people)
            await self._suspend_one(house, town)

    async def _enrol_cooks(self, house: Installation, town: Municipality, people: People) -> None:
        try:
            cooks = await asyncio.to_thread(cooks_of, town, people)
        except TownMistakesError as error:
            raise DemonstrationFailed(str(error)) from error
        digits = town.pin_digits
        await house.store.at(town.key).import_cooks(
            cooks.cooks, house.hasher, lambda: f"{secrets.randbelow(10**digits):0{digits}}"
        )

    async def _suspend_one(self, house: Installation, town: Municipality) -> None:
        desks = house.desks_of(town)
        pupil = await desks.pupil(SUSPENDED_CODE)
        if pupil is None:
            return
        actor = Actor(Channel.OFFICE, "example", None, frozenset({pupil.id}))
        reading = house.clock_of(town).read()
        [view] = await desks.booking.views(Channel.OFFICE, [pupil], reading)
        if view.day is not None:
            await desks.booking.act(actor, [Request(pupil, Suspend(view.day), "example-suspension")], reading)

    async def _make_clips(self, house: Installation, stop: asyncio.Event) -> None:
        """The clips of the towns' own words and of first names that have none, by the best voice of this machine."""
        for town in self._towns:
            if stop.is_set():
                return
            names = {pupil.name for pupil in await house.store.at(town.key).all_pupils()}
            made = await asyncio.to_thread(make_clips, town, names, sounds_folder(house.settings))
            if made:
                self._log.info("clips_made", town=town.key, clips=len(made), voice=summary(made))

    async def _heartbeat(self, house: Installation) -> None:
        is_told = False
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            try:
                await house.store.set_setting(LAST_INSTANT, house.now().isoformat())
                is_told = False
            except StoreError as fault:
                # Once, until it works again: what else needs the store says so itself.
                if not is_told:
                    self._log.warning(
                        "rehearsal_instant_not_kept",
                        fault=str(fault),
                        holds="KEEP=1 would go on from an earlier instant; tried again every few seconds",
                    )
                is_told = True

    # Asterisk

    @contextlib.asynccontextmanager
    async def _asterisk(self) -> AsyncIterator[tuple[RunningAsterisk | None, str]]:
        """Asterisk, or why there is none."""
        try:
            root = await asterisk_root()
            folder = home(self._configuration.folder) / "var" / "asterisk"
            running = RunningAsterisk(asterisk_settings(self._configuration), folder, root)
            await running.start()
        except AsteriskFailed as error:
            yield None, str(error)
            return
        try:
            yield running, ""
        finally:
            await running.stop()

    async def _watch(self, asterisk: RunningAsterisk, stop: asyncio.Event) -> None:
        await asterisk.wait()
        if not stop.is_set():
            self._log.error("asterisk_ended", log=str(asterisk.log), holds="no call is answered; stop and start again")

    # What a newcomer reads

    def _print_banner(self, house: Installation, why_none: str) -> None:
        town = self._towns[0]
        now = house.now().astimezone(town.timezone)
        sip = house.settings.sip
        known = _callers(town)

        def say(line: str = "") -> None:
            # Long lines are the terminal's to wrap: what is copied from them stays whole.
            self._console.print(line, soft_wrap=True, highlight=False)

        say()
        say(f"[bold]Pronto Mensa answers for {escape(town.name)}.[/]")
        if house.offset:
            say(f"  The clock is a rehearsal's: {now:%A %d %B %Y, %H:%M:%S}, and runs on from there.")
        else:
            say(f"  The clock is the real one: {now:%A %d %B %Y, %H:%M:%S}.")
        if why_none:
            say(f"  [yellow]No Asterisk, so no telephone.[/] {escape(why_none)}")
        else:
            address = sip.host if sip.port == 5060 else f"{sip.host}:{sip.port}"
            say(
                f"  Call with any softphone, no account needed:  [bold]sip:{dialled_forms(town.numbers[:1])[-1]}@{address}[/]"
            )
        for line in known.lines:
            say(f"    {escape(line)}")
        say(
            f"  At each cutoff the kitchen's order lies in {escape(str(REHEARSAL_FOLDER))}/ as a mail, with its page to hang up."
        )
        say("  Beside it, in another terminal:")
        say("    make phone                             the same call without a softphone")
        say("    .venv/bin/mensa calls tail --follow    who calls, as it happens")
        say(f"    .venv/bin/mensa presence {known.code:<13} what a pupil gets, and the receipt behind it")
        say(
            f"  Health: http://{house.settings.web.host}:{house.settings.web.port}/health. Ctrl-C puts everything away."
        )
        say()


@dataclass(frozen=True, slots=True)
class _Callers:
    """How to be somebody of the example, and a code to ask about."""

    lines: tuple[str, ...]
    code: str


def _callers(town: Municipality) -> _Callers:
    """A recognised number with one pupil, one with several, and a code with its PIN."""
    people = read_people(town.people_file, town) if town.people_file else None
    if not isinstance(people, People):
        return _Callers((), "CODE")
    lines: dict[bool, str] = {}
    code = people.pupils[0].user_code if people.pupils else "CODE"
    for number, pupils in recognised(people):
        codes = [pupil.user_code for pupil in pupils]
        if len(codes) == 1 and False not in lines:
            code = codes[0]
            lines[False] = f"with the caller id {number} it knows you: pupil {code}; 1 1 cancels"
        elif len(codes) > 1 and True not in lines:
            lines[True] = (
                f"with the caller id {number} it knows you: pupils {' and '.join(codes)}; 9 1 1 cancels for all"
            )
    for pupil in people.pupils:
        pins = [people.guardians[each].pin for each in pupil.guardians if people.guardians[each].pin]
        if pupil.user_code == code and pins:
            lines_of_codes = f"with any other it asks: code {code}, PIN {pins[0]}; then 1 1 cancels"
            return _Callers((*lines.values(), lines_of_codes, *_cook(town, people)), code)
    return _Callers((*lines.values(), *_cook(town, people)), code)


def _cook(town: Municipality, people: People) -> tuple[str, ...]:
    """A cook who may hear the counts of most schools."""
    try:
        known = [cook for cook in cooks_of(town, people).cooks if cook.pin]
    except TownMistakesError:
        return ()
    cook = min(known, key=lambda each: (bool(each.schools), -len(each.schools)), default=None)
    return () if cook is None else (f"likewise the kitchen: code {cook.code}, PIN {cook.pin}; it hears the counts",)


def _without_ami(configuration: Configuration) -> Configuration:
    settings = configuration.settings
    ami = settings.ami.model_copy(update={"enabled": False})
    return dataclasses.replace(configuration, settings=settings.model_copy(update={"ami": ami}))
