"""The towns in force: their files watched, each edit checked as a whole, then swapped in or refused (R23).

Editors write in many ways: by renaming a new file into place, by emptying the old one first, by taking it away for a moment.
So nothing is judged by one event: what the files hold is read until it stands still, and only then looked at. Events wake us
at once, where the file system has any; looking goes on beside them, a few towns at a time.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from watchfiles import awatch

from core.desk import Town
from gateway.files.load import TOWNS, Configuration, address_mistake, check_key, check_town, town_folders
from gateway.files.mistakes import Mistake, shown
from gateway.files.sources import SCHOOLS, TownFiles, read_town_files, signature
from gateway.files.tree import START, find, place_of, place_of_key, read_tree
from gateway.municipality import AddressTakenError, Municipalities, Municipality

# Between two looks at the files where no event comes: file systems over the network send none, nor does a replaced folder.
LOOK_EVERY_MS = 500
# At each look this many towns are seen to, in turn: all of a few hundred within a second, 8,000 within half a minute, for
# half a hundredth of a processor.
TOWNS_A_LOOK = 150
# Events closer together than this are one edit.
DEBOUNCE_MS, STEP_MS = 400, 50
# An editor writes a file of this size in milliseconds; a copy over a slow line may pause for as long as this.
SETTLED_AFTER_S = 0.3
# What is still being written after this many looks is judged at a later one.
SETTLE_LOOKS_MAX = 10
# A new version of all towns' files is taken over in parts of this size: what is read is kept in memory until it stands still.
TOWNS_TOGETHER = 200
# How many looks to do without events before the file system is asked for them again.
LOOKS_WITHOUT_EVENTS = 60
# The Linux setting that says how many folders one user may watch; a watch is one folder.
WATCHES_SETTING = Path("/proc/sys/fs/inotify/max_user_watches")


@dataclass(frozen=True, slots=True)
class Swapped:
    """An edit is in force; `before` is None for a town that could not be served until now."""

    before: Municipality | None
    after: Municipality


@dataclass(frozen=True, slots=True)
class Refused:
    """An edit has mistakes. What was in force, if anything, stays in force."""

    key: str
    mistakes: tuple[Mistake, ...]


@dataclass(frozen=True, slots=True)
class TakenBack:
    """An edit that was refused is gone: the files say again what is in force."""

    town: Municipality


@dataclass(frozen=True, slots=True)
class Removed:
    """A town without pupils whose folder is gone is served no more."""

    town: Municipality


@dataclass(frozen=True, slots=True)
class Unwatched:
    """The file system tells of no edits: they are found by looking, which takes up to `seconds`."""

    why: str
    seconds: float


Edit = Swapped | Refused | TakenBack | Removed | Unwatched
# How many pupils each class, by school and name, has; asked only of a town from which an edit takes classes away.
ClassesInUse = Callable[[Municipality], Awaitable[Mapping[tuple[str, str], int]]]


class CalendarInForce:
    """One town as it is in force: read without waiting, swapped whole, so that no request sees half an edit."""

    def __init__(self, municipality: Municipality) -> None:
        self._municipality = municipality

    @property
    def municipality(self) -> Municipality:
        return self._municipality

    def town(self) -> Town:
        """The rules in force; a `BookingDesk` is given this."""
        return self._municipality.town

    def swap(self, municipality: Municipality) -> None:
        if municipality.key != self._municipality.key:
            raise ValueError(f"{municipality.key} cannot stand for {self._municipality.key}")
        self._municipality = municipality


class TownsInForce:
    """All towns of a configuration as they are in force, kept up with their files by `watch`."""

    def __init__(
        self, configuration: Configuration, classes_in_use: ClassesInUse, on_edit: Callable[[Edit], None]
    ) -> None:
        self._root, self._only = (configuration.folder / TOWNS).absolute(), configuration.only
        self._folder = configuration.folder
        self._classes_in_use = classes_in_use
        self._on_edit = on_edit
        self._municipalities = configuration.municipalities
        # A town that comes back has the desks it had.
        self._calendars = {town.key: CalendarInForce(town) for town in configuration.municipalities}
        # What was said last of each town with mistakes, so that it is said once; and what was looked at last.
        self._refused = dict(configuration.broken)
        self._judged = {key: look.digest for key, look in configuration.looks.items()}
        self._signatures = {key: look.signature for key, look in configuration.looks.items()}
        # Towns with nothing against them but that another one has their number, host name or bot.
        self._waiting = dict(configuration.waiting)
        self._round: list[str] = []
        self._is_watched = True

    @property
    def municipalities(self) -> Municipalities:
        return self._municipalities

    @property
    def refused(self) -> Mapping[str, tuple[Mistake, ...]]:
        """The towns whose files have mistakes now, whether or not an earlier state of them is in force."""
        return self._refused

    @property
    def digest(self) -> str:
        """A hash over what is in force: equal on gateways that serve the same towns in the same way."""
        return self._municipalities.digest

    def calendar(self, key: str) -> CalendarInForce | None:
        return self._calendars[key] if self._municipalities.named(key) else None

    def reached_by(self, number: str) -> CalendarInForce | None:
        """The town that this dialled number (E.164) reaches."""
        return self._in_force(self._municipalities.reached_by(number))

    def at_host(self, host: str) -> CalendarInForce | None:
        """The town of this host name, as a browser sends it."""
        return self._in_force(self._municipalities.at_host(host))

    def with_bot(self, name: str) -> CalendarInForce | None:
        """The town of the Telegram bot with this user name."""
        return self._in_force(self._municipalities.with_bot(name))

    def _in_force(self, town: Municipality | None) -> CalendarInForce | None:
        return self._calendars[town.key] if town else None

    async def watch(self) -> None:
        """Keep up with the files, until cancelled."""
        undone: frozenset[str] = frozenset()
        async for touched in self._wakes():
            wanted = {key for key in touched if self._only in (None, key)} | undone
            signatures = await asyncio.to_thread(self._look, wanted)
            changed = {key for key, seen in signatures.items() if seen != self._signatures.get(key)}
            undone = await self.refresh_all(changed | wanted)
            for key in signatures.keys() - undone:
                # Of what is no town any more nothing is kept.
                if key in self._judged:
                    self._signatures[key] = signatures[key]

    def _look(self, touched: Iterable[str]) -> dict[str, int]:
        """What the files of the next few towns look like, and of those that something happened to."""
        if not self._round:
            # A folder that is gone is looked at too: that its town stays in force has to be said.
            there = self._listed() | self._calendars.keys() | self._refused.keys()
            self._round = [key for key in sorted(there, reverse=True) if self._only in (None, key)]
        here = [self._round.pop() for _ in range(min(TOWNS_A_LOOK, len(self._round)))]
        return {key: signature(f"{self._root}/{key}") for key in (*here, *touched)}

    def _listed(self) -> frozenset[str]:
        try:
            return frozenset(folder.name for folder in town_folders(self._folder))
        # Those that are known are looked at all the same, and each says what is wrong.
        except OSError:
            return frozenset()

    async def refresh(self, key: str) -> bool:
        """Look at one town's files and take over what they say, or say what is wrong. False when it has to be done again."""
        return not await self.refresh_all([key])

    async def refresh_all(self, keys: Collection[str]) -> frozenset[str]:
        """As `refresh`, for many; those that have to be done again."""
        again: set[str] = set()
        ordered = iter(sorted(keys))
        while part := list(islice(ordered, TOWNS_TOGETHER)):
            settled, unsettled = await self._settled(part)
            again |= unsettled
            for key, files in settled.items():
                if not await self._take_over(key, files):
                    again.add(key)
            self._let_in()
        return frozenset(again)

    async def _take_over(self, key: str, files: TownFiles) -> bool:
        digest = files.digest
        if self._judged.get(key) == digest:
            return True
        is_there, loaded = await asyncio.to_thread(_judge, files)
        before = self._municipalities.named(key)
        try:
            if not is_there:
                mistakes = await self._leaves(key, before)
            elif isinstance(loaded, Municipality):
                mistakes = await self._removals(files, loaded)
            else:
                mistakes = loaded
        # Whatever the store is down with, the old calendar goes on and the edit is judged when it is back.
        except Exception as error:
            what = f"it takes classes away, and the store cannot say whether they are in use: {shown(error)}"
            self._refuse(key, (Mistake(files.folder / SCHOOLS, 1, 1, f"{what}; tried again until it can"),))
            return False
        if mistakes:
            self._refuse(key, mistakes)
        elif not is_there:
            self._remove(key, before)
            return True
        elif isinstance(loaded, Municipality):
            self._take(loaded)
        self._judged[key] = digest
        return True

    def _take(self, loaded: Municipality) -> None:
        key = loaded.key
        before = self._municipalities.named(key)
        try:
            municipalities = self._municipalities.with_town(loaded)
        except AddressTakenError as taken:
            self._refuse(key, (address_mistake(taken, loaded),))
            self._waiting[key] = loaded
            return
        self._waiting.pop(key, None)
        was_refused = self._refused.pop(key, None) is not None
        if loaded == before:
            if was_refused:
                self._on_edit(TakenBack(loaded))
            return
        self._municipalities = municipalities
        if key in self._calendars:
            self._calendars[key].swap(loaded)
        else:
            self._calendars[key] = CalendarInForce(loaded)
        self._on_edit(Swapped(before, loaded))

    def _let_in(self) -> None:
        """Serve those that waited for a number, host name or bot that is free now."""
        for key in sorted(self._waiting):
            if self._municipalities.taken(self._waiting[key]) is None:
                self._take(self._waiting[key])

    def _refuse(self, key: str, mistakes: tuple[Mistake, ...]) -> None:
        self._waiting.pop(key, None)
        if self._refused.get(key) != mistakes:
            self._refused[key] = mistakes
            self._on_edit(Refused(key, mistakes))

    def _remove(self, key: str, before: Municipality | None) -> None:
        for kept in (self._refused, self._judged, self._signatures, self._waiting):
            kept.pop(key, None)
        if before is not None:
            self._municipalities = self._municipalities.without(key)
            self._on_edit(Removed(before))

    async def _leaves(self, key: str, before: Municipality | None) -> tuple[Mistake, ...]:
        """What is wrong with taking a whole town away: its pupils, whom the line could not answer for."""
        pupils = sum((await self._classes_in_use(before)).values()) if before is not None else 0
        if not pupils:
            return ()
        message = f"the folder is gone, but the town has {pupils} pupils; expected it to stay while it has any"
        return (Mistake(self._folder / TOWNS / key, 1, 1, message),)

    async def _removals(self, files: TownFiles, after: Municipality) -> tuple[Mistake, ...]:
        """What is wrong with taking away classes that pupils are in: the line could not answer for them."""
        before = self._municipalities.named(after.key)
        if before is None:
            return ()
        gone = [each for each in before.town.calendar.classes if each not in after.town.calendar.classes]
        if not gone:
            return ()
        in_use = await self._classes_in_use(before)
        return tuple(_removal(files, each, in_use[each]) for each in gone if in_use.get(each))

    async def _settled(self, keys: Collection[str]) -> tuple[dict[str, TownFiles], set[str]]:
        """What the files of those towns hold that stand still and were not judged yet, and whose are still being written."""
        settled: dict[str, TownFiles] = {}
        writing = await asyncio.to_thread(self._read, keys)
        for _ in range(SETTLE_LOOKS_MAX):
            writing = {key: files for key, files in writing.items() if self._judged.get(key) != files.digest}
            if not writing:
                break
            await asyncio.sleep(SETTLED_AFTER_S)
            again = await asyncio.to_thread(self._read, writing)
            settled |= {key: files for key, files in again.items() if files == writing[key]}
            writing = {key: files for key, files in again.items() if files != writing[key]}
        return settled, set(writing)

    def _read(self, keys: Iterable[str]) -> dict[str, TownFiles]:
        return {key: read_town_files(self._folder / TOWNS / key) for key in keys}

    async def _wakes(self) -> AsyncIterator[frozenset[str]]:
        """The towns whose folders something happened in, at once; nothing, when it is time for another look."""
        root = self._root
        yield frozenset()
        while True:
            try:
                async for changes in awatch(
                    root,
                    watch_filter=None,
                    debounce=DEBOUNCE_MS,
                    step=STEP_MS,
                    rust_timeout=LOOK_EVERY_MS,
                    yield_on_timeout=True,
                ):
                    self._is_watched = True
                    paths = (Path(path) for _, path in changes)
                    inside = (path.relative_to(root).parts for path in paths if path.is_relative_to(root))
                    yield frozenset(parts[0] for parts in inside if parts and not parts[0].startswith("."))
            # No such folder yet, no more watches to be had, or a file system without them: looking does it too.
            except (OSError, RuntimeError) as error:
                self._say_unwatched(error)
                for _ in range(LOOKS_WITHOUT_EVENTS):
                    await asyncio.sleep(LOOK_EVERY_MS / 1000)
                    yield frozenset()

    def _say_unwatched(self, error: Exception) -> None:
        if not self._is_watched:
            return
        self._is_watched = False
        towns = len(self._calendars.keys() | self._refused.keys())
        looks = -(-towns // TOWNS_A_LOOK)
        self._on_edit(Unwatched(f"{error}{_watches_needed(towns)}", (looks + 1) * LOOK_EVERY_MS / 1000))


def _watches_needed(towns: int) -> str:
    """What to set where the limit is what keeps a user from watching all folders."""
    try:
        most = int(WATCHES_SETTING.read_text())
    except (OSError, ValueError):
        return ""
    return f"; fs.inotify.max_user_watches is {most}, and {towns} towns take {towns + 1} or more of them"


def _judge(files: TownFiles) -> tuple[bool, Municipality | tuple[Mistake, ...]]:
    """Whether there is such a folder at all, and what its files say."""
    return os.path.isdir(files.folder), check_key(files.folder) or check_town(files)


def _removal(files: TownFiles, gone: tuple[str, str], pupils: int) -> Mistake:
    file, content = files.folder / SCHOOLS, files.contents[SCHOOLS]
    tree = read_tree(file, content)[0] if isinstance(content, bytes) else None
    school, name = gone
    place = START
    if tree is not None:
        is_there = find(tree, ("schools", school)) is not None
        place = place_of_key(tree, ("schools", school)) if is_there else place_of(tree, ("schools",))
    message = (
        f"class {shown(f'{school}/{name}')} is gone, but {pupils} pupils are in it; "
        "expected it to stay until they are in other classes"
    )
    return Mistake(file, place.line, place.column, message)
