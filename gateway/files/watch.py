"""The towns in force: their files watched, each edit checked as a whole, then swapped in or refused (R23).

Editors write in many ways: by renaming a new file into place, by emptying the old one first, by taking it away for a moment.
So nothing is judged by one event: what the files hold is read until it stands still, and only then looked at.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from watchfiles import awatch

from core.desk import Town
from gateway.files.load import TOWNS, Configuration, address_mistake, check_key, check_town, town_folders
from gateway.files.mistakes import Mistake, shown
from gateway.files.sources import SCHOOLS, TOWN_FILES, TownFiles, read_town_files
from gateway.files.tree import START, find, place_of, place_of_key, read_tree
from gateway.municipality import AddressTakenError, Municipalities, Municipality

# Between two looks at the files where no event comes: file systems over the network send none, nor does a replaced folder.
LOOK_EVERY_MS = 500
# Events closer together than this are one edit.
DEBOUNCE_MS, STEP_MS = 400, 50
# An editor writes a file of this size in milliseconds; a copy over a slow line may pause for as long as this.
SETTLED_AFTER_S = 0.3
# What is still being written after this many looks is judged at a later one.
SETTLE_LOOKS_MAX = 10
# How many looks to do without events before the file system is asked for them again.
LOOKS_WITHOUT_EVENTS = 60


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


Edit = Swapped | Refused | TakenBack
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
        self._folder, self._only = configuration.folder, configuration.only
        self._classes_in_use = classes_in_use
        self._on_edit = on_edit
        self._municipalities = configuration.municipalities
        self._calendars = {town.key: CalendarInForce(town) for town in configuration.municipalities}
        # What was said last of each town with mistakes, so that it is said once; and what was looked at last.
        self._refused = dict(configuration.broken)
        self._judged: dict[str, TownFiles] = {}
        self._signatures: dict[str, object] = {}

    @property
    def municipalities(self) -> Municipalities:
        return self._municipalities

    @property
    def refused(self) -> Mapping[str, tuple[Mistake, ...]]:
        """The towns whose files have mistakes now, whether or not an earlier state of them is in force."""
        return self._refused

    def calendar(self, key: str) -> CalendarInForce | None:
        return self._calendars.get(key)

    def reached_by(self, number: str) -> CalendarInForce | None:
        """The town that this dialled number (E.164) reaches."""
        town = self._municipalities.reached_by(number)
        return self._calendars[town.key] if town else None

    async def watch(self) -> None:
        """Keep up with the files, until cancelled."""
        async for touched in self._wakes():
            signatures = await asyncio.to_thread(_signatures, self._folder)
            # A folder that is gone is looked at too: that its town stays in force has to be said.
            for key in sorted(signatures.keys() | self._calendars.keys()):
                if self._only not in (None, key):
                    continue
                signature = signatures.get(key)
                is_new = key not in self._signatures or self._signatures[key] != signature
                if (is_new or key in touched) and await self.refresh(key):
                    self._signatures[key] = signature

    async def refresh(self, key: str) -> bool:
        """Look at one town's files and take over what they say, or say what is wrong. False when it has to be done again."""
        files = await self._settled(self._folder / TOWNS / key)
        if files is None:
            return False
        if self._judged.get(key) == files:
            return True
        loaded = await asyncio.to_thread(_judge, files)
        if not isinstance(loaded, Municipality):
            self._refuse(key, loaded)
        else:
            try:
                mistakes = await self._removals(files, loaded)
            # Whatever the store is down with, the old calendar goes on and the edit is judged when it is back.
            except Exception as error:
                what = f"it takes classes away, and the store cannot say whether they are in use: {shown(error)}"
                self._refuse(key, (Mistake(files.folder / SCHOOLS, 1, 1, f"{what}; tried again until it can"),))
                return False
            self._take(key, loaded, mistakes)
        self._judged[key] = files
        return True

    def _take(self, key: str, loaded: Municipality, mistakes: tuple[Mistake, ...]) -> None:
        calendar = self._calendars.get(key)
        before = calendar.municipality if calendar else None
        try:
            municipalities = self._municipalities.with_town(loaded)
        except AddressTakenError as taken:
            mistakes = (*mistakes, address_mistake(taken, loaded))
        if mistakes:
            self._refuse(key, mistakes)
            return
        was_refused = self._refused.pop(key, None) is not None
        if loaded == before:
            if was_refused:
                self._on_edit(TakenBack(loaded))
            return
        self._municipalities = municipalities
        if calendar is None:
            self._calendars[key] = CalendarInForce(loaded)
        else:
            calendar.swap(loaded)
        self._on_edit(Swapped(before, loaded))

    def _refuse(self, key: str, mistakes: tuple[Mistake, ...]) -> None:
        if self._refused.get(key) != mistakes:
            self._refused[key] = mistakes
            self._on_edit(Refused(key, mistakes))

    async def _removals(self, files: TownFiles, after: Municipality) -> tuple[Mistake, ...]:
        """What is wrong with taking away classes that pupils are in: the line could not answer for them."""
        calendar = self._calendars.get(after.key)
        if calendar is None:
            return ()
        before = calendar.municipality
        gone = [each for each in before.town.calendar.classes if each not in after.town.calendar.classes]
        if not gone:
            return ()
        in_use = await self._classes_in_use(before)
        return tuple(_removal(files, each, in_use[each]) for each in gone if in_use.get(each))

    async def _settled(self, folder: Path) -> TownFiles | None:
        """What the files hold once they stand still; None while somebody goes on writing them."""
        files = await asyncio.to_thread(read_town_files, folder)
        for _ in range(SETTLE_LOOKS_MAX):
            if self._judged.get(folder.name) == files:
                return files
            await asyncio.sleep(SETTLED_AFTER_S)
            again = await asyncio.to_thread(read_town_files, folder)
            if again == files:
                return files
            files = again
        return None

    async def _wakes(self) -> AsyncIterator[frozenset[str]]:
        """The towns whose folders something happened in, at once; nothing, when it is time for another look."""
        root = (self._folder / TOWNS).absolute()
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
                    paths = (Path(path) for _, path in changes)
                    inside = (path.relative_to(root).parts for path in paths if path.is_relative_to(root))
                    yield frozenset(parts[0] for parts in inside if parts)
            # No such folder yet, no more watches to be had, or a file system without them: looking does it too.
            except (OSError, RuntimeError):
                for _ in range(LOOKS_WITHOUT_EVENTS):
                    await asyncio.sleep(LOOK_EVERY_MS / 1000)
                    yield frozenset()


def _judge(files: TownFiles) -> Municipality | tuple[Mistake, ...]:
    return check_key(files.folder) or check_town(files)


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


def _signatures(folder: Path) -> dict[str, object]:
    """Something for each town that changes when its files do."""
    try:
        towns = town_folders(folder)
    except OSError:
        return {}
    return {town.name: tuple(_signature(town / name) for name in TOWN_FILES) for town in towns}


def _signature(file: Path) -> tuple[int, int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
