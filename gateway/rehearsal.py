"""Rehearsal files: the line's specification that a clerk can read, run on fresh data and a clock that stands still.

The format is `interfaces.md`'s. `parse` says every mistake at once; `Stage` acts the steps and says what was found instead.
"""

import functools
import itertools
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from core.access import Actor
from core.changes import Presence
from core.desk import Action, Bland, Cancel, Request, Resume, Suspend, Undo
from core.headcount import EATS
from core.kitchen import closings_of
from core.outcomes import ABANDONED, FAILED, INFORMED, LOCKED, NOT_IDENTIFIED, Accepted, Outcome, Refused, Unchanged
from core.people import Cooks, People, Pupil, UserCode
from core.window import Channel
from gateway.clock import FixedClock
from gateway.files.cooks import cooks_file, read_cooks
from gateway.files.load import TOWNS, load_town, town_folders
from gateway.files.mistakes import Mistake, one_of, shown
from gateway.files.people import read_people
from gateway.municipality import Municipality
from gateway.numbers import normalise_number
from gateway.pin_key import KEY_BYTES, KeyedHasher
from gateway.store.memory import MemoryStore
from gateway.telephone import TownDesks, greeting_of, open_desks
from ivr.explore import drive
from ivr.flow import Desks, parents_line
from ivr.prompts import PHRASES
from ivr.terminal import NoKeysError, ScriptedLine, SilentJournal, parse_keys

# A rehearsal is read by a person; what is longer is no rehearsal but a mistake, such as a log given by its name.
BYTES_MAX, STEPS_MAX = 1_000_000, 10_000
COMMENT = "#"
OUTCOMES = frozenset(
    {kind.word for kind in (*Accepted.__args__, *Unchanged.__args__, *Refused.__args__)}
    | {NOT_IDENTIFIED, LOCKED, ABANDONED, INFORMED, FAILED}
)
INSTANT = re.compile(
    r"(?P<day>\d{4}-\d\d-\d\d)[ T](?P<time>\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?)(?:\s+(?:±|\+-)(?P<bound>\d+)ms)?"
)
MEALS = re.compile(r"(?P<what>present|bland|diet:\S+)=(?P<meals>\d{1,6})")
VERBS = ("town", "at", "call", "heard", "outcome", "presence", "portal", "telegram", "close", "headcount")
# What later parts of the product bring.
NOT_YET = {
    "credit": "the ledger is not part of this version yet",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """A step that went otherwise than it says."""

    file: Path
    line: int
    step: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.step}: expected {self.expected}, found {self.found}"


@dataclass(frozen=True, slots=True)
class At:
    wall: datetime
    bound: timedelta


@dataclass(frozen=True, slots=True)
class Call:
    """`caller` and `dialled` as written; None is a withheld number, or the town's first number."""

    caller: str | None
    dialled: str | None
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ask:
    """A guardian's request by portal or message."""

    channel: Channel
    code: UserCode
    action: Action


@dataclass(frozen=True, slots=True)
class InTown:
    town: str


@dataclass(frozen=True, slots=True)
class ExpectHeard:
    prompts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ExpectOutcome:
    word: str


@dataclass(frozen=True, slots=True)
class ExpectPresence:
    code: UserCode
    day: date
    presence: Presence


@dataclass(frozen=True, slots=True)
class Close:
    day: date


@dataclass(frozen=True, slots=True)
class ExpectHeadcount:
    """The meals of a school's day: those of each word that the file names, as `present`, `bland` or `diet:C`."""

    school: str
    day: date
    meals: tuple[tuple[str, int], ...]


Doing = InTown | At | Call | Ask | Close | ExpectHeard | ExpectOutcome | ExpectPresence | ExpectHeadcount


@dataclass(frozen=True, slots=True)
class Step:
    line: int
    verb: str
    doing: Doing


class _Wrong(Exception):  # noqa: N818 - never leaves this module
    def __init__(self, word: int, text: str) -> None:
        super().__init__(text)
        self.word = word


def read(file: Path) -> str:
    """The text of a rehearsal file. Raises `OSError` or `ValueError` with what is wrong."""
    content = file.read_bytes()
    if len(content) > BYTES_MAX:
        raise ValueError(f"{file}: {len(content)} bytes; a rehearsal has at most {BYTES_MAX}")
    return content.decode("utf-8-sig")


def parse(text: str, file: Path) -> tuple[list[Step], list[Mistake]]:
    """The steps of a rehearsal file and every mistake in it."""
    steps: list[Step] = []
    mistakes: list[Mistake] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = list(re.finditer(r"\S+", _without_comment(line)))
        if not words:
            continue
        if len(steps) >= STEPS_MAX:
            mistakes.append(Mistake(file, number, 1, f"more than {STEPS_MAX} steps; split the file"))
            break
        verb, *rest = (word.group() for word in words)
        try:
            steps.append(Step(number, verb, _parse_step(verb, rest)))
        except _Wrong as wrong:
            column = words[wrong.word].start() + 1 if wrong.word < len(words) else words[-1].end() + 1
            mistakes.append(Mistake(file, number, column, str(wrong)))
    return steps, mistakes


def _without_comment(line: str) -> str:
    """A `#` after a blank starts a comment; among the keys of a call only the last one that has nothing but keys before it."""
    marks = [found.start() for found in re.finditer(r"(?:^|\s)#", line)]
    keys = re.match(r"\s*call\b.*?\bkeys\b", line)
    if not marks:
        return line
    if keys is None or marks[0] < keys.end():
        return line[: marks[0]]
    if _are_keys(line[keys.end() :]):
        return line
    return line[: next(mark for mark in reversed(marks) if mark == marks[0] or _are_keys(line[keys.end() : mark]))]


def _are_keys(words: str) -> bool:
    try:
        parse_keys(words)
    except NoKeysError:
        return False
    return True


def _parse_step(verb: str, words: list[str]) -> Doing:
    match verb:
        case "town":
            _count(words, 1, 1, "town NAME")
            return InTown(words[0])
        case "at":
            return _parse_at(words)
        case "call":
            return _parse_call(words)
        case "heard":
            _count(words, 1, None, "heard PROMPT…")
            for place, word in enumerate(words, 1):
                if word not in PHRASES:
                    raise _Wrong(place, f"unknown prompt {shown(word)}; {one_of(word, PHRASES)}")
            return ExpectHeard(tuple(words))
        case "outcome":
            _count(words, 1, 1, "outcome WORD")
            if words[0] not in OUTCOMES:
                raise _Wrong(1, f"unknown outcome {shown(words[0])}; {one_of(words[0], OUTCOMES)}")
            return ExpectOutcome(words[0])
        case "presence":
            _count(words, 3, 3, "presence CODE DAY PRESENCE")
            presences = [each.value for each in Presence]
            if words[2] not in presences:
                raise _Wrong(3, f"unknown presence {shown(words[2])}; {one_of(words[2], presences)}")
            return ExpectPresence(_code(words, 0), _day(words, 1), Presence(words[2]))
        case "portal" | "telegram":
            return Ask(Channel(verb), _code(words, 0), _parse_action(words))
        case "close":
            _count(words, 1, 1, "close DAY")
            return Close(_day(words, 0))
        case "headcount":
            _count(words, 3, None, "headcount SCHOOL DAY present=MEALS|bland=MEALS|diet:CODE=MEALS…")
            return ExpectHeadcount(words[0], _day(words, 1), _parse_meals(words))
        case _ if verb in NOT_YET:
            raise _Wrong(0, f"{verb}: {NOT_YET[verb]}")
        case _:
            raise _Wrong(0, f"unknown step {shown(verb)}; {one_of(verb, (*VERBS, *NOT_YET))}")


def _parse_meals(words: list[str]) -> tuple[tuple[str, int], ...]:
    meals: dict[str, int] = {}
    for place, word in enumerate(words[2:], 3):
        found = MEALS.fullmatch(word)
        if found is None:
            raise _Wrong(place, f"{shown(word)} is no count; expected one such as present=21, bland=1 or diet:C=2")
        if found["what"] in meals:
            raise _Wrong(place, f"{found['what']} is counted twice; expected it once")
        meals[found["what"]] = int(found["meals"])
    return tuple(meals.items())


def _parse_at(words: list[str]) -> At:
    try:
        return parse_instant(" ".join(words))
    except ValueError as error:
        raise _Wrong(1, f"at: {error}") from error


def parse_instant(text: str) -> At:
    """A local time with or without a clock's bound. Raises ValueError with what is expected."""
    expected = "expected local time, such as 2026-11-23 18:30, seconds and .milliseconds and ±50ms after it if wanted"
    found = INSTANT.fullmatch(text)
    if found is None:
        raise ValueError(f"{shown(text)} is no instant; {expected}")
    try:
        wall = datetime.fromisoformat(f"{found['day']}T{found['time']}")
    except ValueError as error:
        raise ValueError(f"{shown(text)}: {error}; {expected}") from error
    return At(wall, timedelta(milliseconds=int(found["bound"] or 0)))


def _parse_call(words: list[str]) -> Call:
    usage = "call NUMBER|anonymous [to NUMBER] [keys KEYS…]"
    _count(words, 1, None, usage)
    head: list[str] = words
    keys: tuple[str, ...] = ()
    if "keys" in words:
        place = words.index("keys")
        head = words[:place]
        try:
            keys = parse_keys(" ".join(words[place + 1 :]))
        except NoKeysError as error:
            raise _Wrong(place + 2, str(error)) from error
    caller = None if head[:1] == ["anonymous"] else _number(head, 0)
    match head[1:]:
        case []:
            return Call(caller, None, keys)
        case ["to", _]:
            return Call(caller, _number(head, 2), keys)
        case _:
            raise _Wrong(2, f"call: {' '.join(head[1:])!r} is not understood; expected: {usage}")


def _parse_action(words: list[str]) -> Action:
    usage = "CODE cancel DAY | bland DAY | suspend FROM [UNTIL] | resume FROM | undo [DAY]"
    _count(words, 2, 4, usage)
    match words[1], len(words) - 2:
        case "cancel", 1:
            return Cancel(_day(words, 2))
        case "bland", 1:
            return Bland(_day(words, 2))
        case "suspend", 1:
            return Suspend(_day(words, 2))
        case "suspend", 2:
            return Suspend(_day(words, 2), _day(words, 3))
        case "resume", 1:
            return Resume(_day(words, 2))
        case "undo", 0:
            return Undo()
        case "undo", 1:
            return Undo(_day(words, 2))
        case _:
            raise _Wrong(2, f"{' '.join(words[1:])!r} is not understood; expected: {usage}")


def _count(words: list[str], least: int, most: int | None, usage: str) -> None:
    if len(words) < least or (most is not None and len(words) > most):
        raise _Wrong(min(len(words), most or len(words)) + 1, f"expected: {usage}")


def _code(words: list[str], place: int) -> UserCode:
    if place >= len(words) or not words[place].isdecimal():
        raise _Wrong(place + 1, f"expected a user code, found {' '.join(words[place : place + 1])!r}")
    return UserCode(words[place])


def _day(words: list[str], place: int) -> date:
    try:
        return date.fromisoformat(words[place])
    except (ValueError, IndexError) as error:
        found = repr(words[place]) if place < len(words) else "nothing"
        raise _Wrong(place + 1, f"expected a date, such as 2026-11-24, found {found}") from error


def _number(words: list[str], place: int) -> str:
    number = normalise_number(words[place]) if place < len(words) else None
    if number is None:
        found = repr(words[place]) if place < len(words) else "nothing"
        raise _Wrong(place + 1, f"expected a telephone number or `anonymous`, found {found}")
    return number


class SkippedTimeError(ValueError):
    """A local time that summer time skips."""


def local_instant(wall: datetime, timezone: ZoneInfo) -> datetime:
    """The instant, in UTC, of a local time; in the repeated hour the first pass. Raises `SkippedTimeError`."""
    instant = wall.replace(tzinfo=timezone, fold=0).astimezone(UTC)
    if instant.astimezone(timezone).replace(tzinfo=None) != wall:
        raise SkippedTimeError(f"{wall} does not exist in {timezone}: summer time skips it")
    return instant


class NoTownError(LookupError):
    """There is no town to rehearse in; nothing after it in the file can be judged."""


class TownMistakesError(ValueError):
    """A town's own files have mistakes."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        super().__init__("\n".join(map(str, mistakes)))
        self.mistakes = tuple(mistakes)


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """One town's desks on fresh data."""

    municipality: Municipality
    desks: TownDesks


# A town by its key, with fresh data; raises `NoTownError` or `TownMistakesError`.
OpenTown = Callable[[str], Rehearsed]


def read_town(configuration: Path, key: str) -> tuple[Municipality, People]:
    """A town of a configuration folder with everybody in its people.csv.

    Raises `NoTownError` or `TownMistakesError`.
    """
    folder = configuration / TOWNS / key
    if not folder.is_dir():
        raise NoTownError(f"{folder}: no such town; {one_of(key, (each.name for each in town_folders(configuration)))}")
    municipality = load_town(folder)
    if not isinstance(municipality, Municipality):
        raise TownMistakesError(municipality)
    file = municipality.people_file
    people = People((), ()) if file is None else read_people(file, municipality)
    if not isinstance(people, People):
        raise TownMistakesError(people)
    return municipality, people


def cooks_of(town: Municipality, people: People) -> Cooks:
    """Everybody in a town's cooks.csv. Raises `TownMistakesError`."""
    file = cooks_file(town)
    found = Cooks(()) if file is None else read_cooks(file, town, [pupil.user_code for pupil in people.pupils])
    if not isinstance(found, Cooks):
        raise TownMistakesError(found)
    return found


def open_town_in(configuration: Path) -> OpenTown:
    """Opens towns of a configuration folder, each time with those of its people.csv and cooks.csv and nothing else.

    What it returns raises `NoTownError` or `TownMistakesError`.
    """

    @functools.cache
    def read(key: str) -> tuple[Municipality, People, Cooks]:
        municipality, people = read_town(configuration, key)
        return municipality, people, cooks_of(municipality, people)

    def open_town(key: str) -> Rehearsed:
        municipality, people, cooks = read(key)
        store = MemoryStore()
        desks = open_desks(lambda: municipality, store, _HASHER)
        pins = itertools.count()
        drive(desks.store.import_people(people, _HASHER, lambda: f"{next(pins):0{municipality.pin_digits}}"))
        drive(desks.store.import_cooks(cooks.cooks, _HASHER, lambda: f"{next(pins):0{municipality.pin_digits}}"))
        return Rehearsed(municipality, desks)

    return open_town


# A rehearsal's data is gone when it ends, so its digests need no secret.
_HASHER = KeyedHasher(bytes(KEY_BYTES))


@dataclass(frozen=True, slots=True)
class Called:
    """What one call came to: the ids of the prompts heard, in order, and its outcome."""

    heard: tuple[str, ...]
    outcome: str


# How a call is made: in this town, with these desks, as this step says, under this session's name.
MakeCall = Callable[[Rehearsed, Desks, Call, str], Awaitable[Called]]


async def scripted_call(town: Rehearsed, desks: Desks, call: Call, session: str) -> Called:
    """A call on the scripted line."""
    line = ScriptedLine(call.keys)
    word = await parents_line(line, SilentJournal(), greeting_of(town.municipality), desks, call.caller, session)
    return Called(line.heard, word)


@dataclass(slots=True)
class Stage:
    """Runs one file's steps, all to the end; `make_call` is how its calls are made."""

    file: Path
    open_town: OpenTown
    first_town: str | None = None
    make_call: MakeCall = scripted_call
    clock: FixedClock = field(default_factory=lambda: FixedClock(datetime(1970, 1, 1, tzinfo=UTC)))
    failures: list[Failure | Mistake] = field(default_factory=list)
    heard: tuple[str, ...] = ()
    outcome: str | None = None
    # The file could not be played to its end, for want of a town.
    was_broken_off: bool = False
    _towns: dict[str, Rehearsed] = field(default_factory=dict)
    _town: Rehearsed | None = None
    _has_time: bool = False
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    async def run(self, steps: Sequence[Step]) -> None:
        for step in steps:
            try:
                await self._act(step)
            except (NoTownError, TownMistakesError) as error:
                self.was_broken_off = True
                self.failures += (
                    error.mistakes
                    if isinstance(error, TownMistakesError)
                    else (Mistake(self.file, step.line, 1, f"{step.verb}: {error}"),)
                )
                return
            except (SkippedTimeError, LookupError, ValueError) as error:
                for line in str(error).splitlines():
                    self.failures.append(Mistake(self.file, step.line, 1, f"{step.verb}: {line}"))

    async def _act(self, step: Step) -> None:
        match step.doing:
            case InTown(name):
                self._enter(name)
            case At(wall, bound):
                instant = local_instant(wall, self._here().municipality.timezone)
                self.clock.set(instant, bound)
                self._has_time = True
            case Call() as call:
                await self._call(call)
            case Ask(channel, code, action):
                self.outcome = (await self._ask(channel, code, action)).word
            case ExpectHeard(prompts):
                if not _in_order(prompts, self.heard):
                    self._fail(step, " ".join(prompts), " ".join(self.heard) or "nothing")
            case ExpectOutcome(word):
                if self.outcome != word:
                    self._fail(step, word, self.outcome or "no action yet")
            case ExpectPresence(code, day, presence):
                pupil = await self._pupil(code)
                [found] = await self._here().desks.booking.presences(pupil, day, day)
                if found.presence is not presence:
                    self._fail(step, presence, found.presence)
            case Close(day):
                await self._close(day)
            case ExpectHeadcount(school, day, meals):
                counted = tuple([(what, await self._meals(school, day, what)) for what, _ in meals])
                if counted != meals:
                    self._fail(step, _shown_meals(meals), _shown_meals(counted))

    def _fail(self, step: Step, expected: str, found: str) -> None:
        self.failures.append(Failure(self.file, step.line, step.verb, expected, found))

    def _enter(self, name: str) -> None:
        if name not in self._towns:
            self._towns[name] = self.open_town(name)
        self._town = self._towns[name]

    def _here(self) -> Rehearsed:
        if self._town is None and self.first_town is not None:
            self._enter(self.first_town)
        if self._town is None:
            raise NoTownError("no town yet; start the file with: town NAME")
        return self._town

    def _now(self) -> FixedClock:
        if not self._has_time:
            raise LookupError("no time yet; say it before with: at 2026-11-23 18:30")
        return self.clock

    async def _call(self, call: Call) -> None:
        town = self._here()
        if call.dialled is not None and call.dialled not in town.municipality.numbers:
            self.heard, self.outcome = ("number-not-in-service",), FAILED
            return
        desks = replace(town.desks.for_calls(self._now()), new_key=lambda: f"key-{next(self._numbers)}")
        called = await self.make_call(town, desks, call, f"call-{next(self._numbers)}")
        self.heard, self.outcome = called.heard, called.outcome

    async def _ask(self, channel: Channel, code: UserCode, action: Action) -> Outcome:
        town, pupil = self._here(), await self._pupil(code)
        guardians = await town.desks.store.credentials(pupil.id)
        guardian = guardians[0].guardian if guardians else None
        number = next(self._numbers)
        actor = Actor(channel, f"{channel}-{number}", guardian, frozenset({pupil.id}))
        [outcome] = await town.desks.booking.act(
            actor, [Request(pupil, action, f"request-{number}")], self._now().read()
        )
        return outcome

    async def _close(self, day: date) -> None:
        """Move the clock just past each cutoff of the day for which it is not yet, and close the schools that have it."""
        town = self._here()
        calendar = town.municipality.town.calendar
        dues = closings_of(calendar, day)
        if not dues:
            raise LookupError(f"no school of {town.municipality.key} is served on {day}; expected a service day")
        for due in dues:
            now = self.clock.read()
            if not now.is_past(due.cutoff):
                self.clock.set(due.cutoff + now.bound + datetime.resolution, now.bound)
            self._has_time = True
            await town.desks.kitchen.close(due, self.clock.read())

    async def _meals(self, school: str, day: date, what: str) -> int:
        town = self._here()
        schools = town.municipality.town.calendar.schools
        if school not in schools:
            raise LookupError(f"{town.municipality.key} has no school {shown(school)}; {one_of(school, schools)}")
        headcount, _ = await town.desks.kitchen.headcount(school, day)
        if what in EATS:
            return headcount.meals_of(Presence(what))
        return headcount.meals_by_diet().get(what.partition(":")[2], 0)

    async def _pupil(self, code: UserCode) -> Pupil:
        town = self._here()
        pupil = await town.desks.pupil(code)
        if pupil is None:
            raise LookupError(f"unknown user code {code}; expected one of {town.municipality.key}'s people.csv")
        return pupil


def _shown_meals(meals: Sequence[tuple[str, int]]) -> str:
    return " ".join(f"{what}={number}" for what, number in meals)


def _in_order(expected: Sequence[str], found: Sequence[str]) -> bool:
    """Whether `expected` stands in `found` in this order, whatever lies between."""
    rest = iter(found)
    return all(each in rest for each in expected)
