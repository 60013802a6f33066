"""The booking desk: the one way to make or read changes, for every channel.

`decide` is the whole of the rules for one pupil and one action, pure; `BookingDesk` puts it inside the store's transaction.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, fields
from datetime import date, datetime, timedelta
from itertools import count, islice

from core.access import Actor
from core.calendar import NONE_CLOSED, ONE_DAY, ClosedDays, DayStatus, Service, ServiceCalendar, dates
from core.changes import Change, ChangeId, DayPresence, History, Kind, NewChange, Presence, fold, standing
from core.clock import Reading
from core.outcomes import (
    AlreadyBland,
    AlreadyCancelled,
    AlreadySuspended,
    BlandLimit,
    BlandMeal,
    Cancelled,
    CancelledDay,
    NoService,
    NothingToUndo,
    NotSuspended,
    Outcome,
    OutsideWindow,
    Refused,
    Resumed,
    Suspended,
    SuspendedDay,
    TooFar,
    TooLate,
    Undone,
)
from core.people import ClassGroup, Pupil
from core.ports import Entries, Kept, Refusal, TownStore
from core.window import Anytime, Channel, Evening, Open, Shut, Window, is_closed, judge, last_day_ahead

# Four digits can be remembered until a pen is found (R19); a pupil with so many changes that they run short gets five.
RECEIPT_DIGITS = 4
# A receipt space is left for the next longer one when it is this full, so that finding a free receipt stays quick.
RECEIPTS_FULL = 0.5
# Closed days further back are not looked for: a change still in force was counted on some day of the last school year.
UNDO_LOOKS_BACK = timedelta(days=400)


@dataclass(frozen=True, slots=True)
class Cancel:
    day: date


@dataclass(frozen=True, slots=True)
class Bland:
    day: date


@dataclass(frozen=True, slots=True)
class Suspend:
    first: date
    until: date | None = None


@dataclass(frozen=True, slots=True)
class Resume:
    first: date


@dataclass(frozen=True, slots=True)
class Undo:
    """Without `day` the latest change that can be undone, with it the latest that covers the day (R16).

    With `change` that one or nothing: whoever was told what would be taken back has confirmed no other.
    """

    day: date | None = None
    change: ChangeId | None = None


Action = Cancel | Bland | Suspend | Resume | Undo


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for one pupil. `key` is the idempotency key: the same key is the same change once (R20)."""

    pupil: Pupil
    action: Action
    key: str


@dataclass(frozen=True, slots=True)
class Town:
    """One municipality's rules as they stand: swapped whole when its files are edited."""

    calendar: ServiceCalendar
    windows: Mapping[Channel, Window]
    bland_days_max: int
    # Diets whose meals stand on the tray list by name: the kitchen's alone to know, and nobody else's on it.
    tray_diets: frozenset[str] = frozenset()

    def class_group(self, pupil: Pupil) -> ClassGroup:
        """The pupil's class group; one without weekdays where an edit of the calendar has left none of that name."""
        key = pupil.school, pupil.class_group
        return self.calendar.classes.get(key) or ClassGroup(*key, weekdays=frozenset())


class Undecided:
    """The requests whose decision instant is known and whose fate is not yet: a day closes after those decided in time.

    One for all desks of a gateway (R25).
    """

    def __init__(self) -> None:
        self._held: dict[int, datetime] = {}
        self._numbers = count()

    @contextmanager
    def holding(self, at: Reading) -> Iterator[None]:
        number = next(self._numbers)
        self._held[number] = at.earliest
        try:
            yield
        finally:
            del self._held[number]

    def settled_until(self, now: Reading) -> datetime:
        """The instant (UTC) before which nothing is undecided any more; what was decided at that very instant may be."""
        return min((now.earliest, *self._held.values()))


@dataclass(frozen=True, slots=True)
class View:
    """What holds for a pupil as one channel sees it now.

    `day` is the day a change would apply to, or outside the window the first useful day from today; None when the school
    year has none left. `undoable` is what an undo would take back. `shut` says when the window opens again.
    """

    pupil: Pupil
    day: date | None
    presence: Presence
    change: Change | None
    undoable: Change | None
    shut: OutsideWindow | None


@dataclass(frozen=True, slots=True)
class PupilDay:
    """One date of a pupil: what the calendar says, what the pupil gets, and the change behind it."""

    day: date
    status: DayStatus
    presence: Presence
    change: Change | None


class NotTheirPupilError(Exception):
    """An actor asked for a pupil that is none of theirs: a fault of the door, which must not offer it (R29)."""


class BookingDesk:
    """One municipality's desk, the same for the telephone, the portal, messages and operators."""

    def __init__(self, town: Callable[[], Town], store: TownStore, undecided: Undecided | None = None) -> None:
        self._town = town
        self._store = store
        self._undecided = undecided or Undecided()

    @property
    def town(self) -> Town:
        return self._town()

    def deciding(self, at: Reading) -> AbstractContextManager[None]:
        """Hold back the closings of days that a request decided at `at` may still change, until it is stored (R25)."""
        return self._undecided.holding(at)

    async def act(self, actor: Actor, requests: Sequence[Request], at: Reading) -> tuple[Outcome, ...]:
        """Take the requests in one transaction, each pupil with its own outcome (R21); `at` is the decision instant (R6).

        What is returned as accepted is durable (R18). Raises `NotTheirPupilError`.
        """
        _must_be_theirs(actor, requests)
        town = self._town()

        def decide_all(kept: Kept) -> tuple[Entries, tuple[Outcome, ...]]:
            return _decide_all(town, requests, kept, actor, at)

        schools = _schools_to_ask(town, requests, at)
        with self.deciding(at):
            return await self._store.transact([request.pupil.id for request in requests], decide_all, schools)

    async def preview(self, actor: Actor, requests: Sequence[Request], at: Reading) -> tuple[Outcome, ...]:
        """What `act` would answer now; nothing is stored, nothing is promised. Raises `NotTheirPupilError`."""
        _must_be_theirs(actor, requests)
        town = self._town()
        kept = await self._kept(town, [request.pupil for request in requests], at)
        return _decide_all(town, requests, kept, actor, at)[1]

    async def record_refusals(
        self, actor: Actor, requests: Sequence[Request], outcomes: Sequence[Outcome], at: Reading
    ) -> None:
        """Keep what `preview` refused and the caller is about to be told, for disputes (R26)."""
        refusals = tuple(
            _refusal(request, outcome, actor, at)
            for request, outcome in zip(requests, outcomes, strict=True)
            if isinstance(outcome, Refused)
        )
        if refusals:
            await self._store.transact((), lambda _: (Entries(refusals=refusals), None))

    async def views(self, channel: Channel, pupils: Sequence[Pupil], at: Reading) -> tuple[View, ...]:
        """What `channel` would show of each pupil now."""
        town = self._town()
        kept = await self._kept(town, pupils, at)
        return tuple(view(town, pupil, kept.histories[pupil.id], channel, at, kept.closed) for pupil in pupils)

    async def presences(self, pupil: Pupil, first: date, last: date) -> tuple[PupilDay, ...]:
        """Every date from `first` through `last`, served or not."""
        history = (await self._store.histories([pupil.id]))[pupil.id]
        closed = await self._store.closed_days({pupil.school: first})
        return tuple(_pupil_days(self._town(), pupil, standing(history), first, last, closed))

    async def coming_days(self, pupil: Pupil, first: date, count: int) -> tuple[PupilDay, ...]:
        """The next `count` service days from `first` on."""
        history = (await self._store.histories([pupil.id]))[pupil.id]
        town, changes = self._town(), standing(history)
        closed = await self._store.closed_days({pupil.school: first})
        days = _pupil_days(town, pupil, changes, first, town.calendar.last_day, closed)
        return tuple(islice((each for each in days if each.status.is_served), count))

    async def _kept(self, town: Town, pupils: Sequence[Pupil], at: Reading) -> Kept:
        """What holds for the pupils; of closed days those from today on, and those that a change still in force covers."""
        histories = await self._store.histories([pupil.id for pupil in pupils])
        today = town.calendar.local(at.earliest).date()
        schools: dict[str, date] = {}
        for pupil in pupils:
            in_force = (change.first for change in standing(histories[pupil.id]) if change.covers(today))
            schools[pupil.school] = min(today, schools.get(pupil.school, today), *in_force)
        return Kept(histories, await self._store.closed_days(schools))


def _schools_to_ask(town: Town, requests: Sequence[Request], at: Reading) -> Mapping[str, date]:
    """The schools whose closed days the requests depend on, from when on: an undo takes back what began before today."""
    today = town.calendar.local(at.earliest).date()
    schools: dict[str, date] = {}
    for request in requests:
        since = today - UNDO_LOOKS_BACK if isinstance(request.action, Undo) else today
        schools[request.pupil.school] = min(since, schools.get(request.pupil.school, since))
    return schools


def view(
    town: Town, pupil: Pupil, history: History, channel: Channel, at: Reading, closed: ClosedDays = NONE_CLOSED
) -> View:
    """What `channel` would show of `pupil` now."""
    calendar, group = town.calendar, town.class_group(pupil)
    changes = standing(history)
    match judge(town.windows[channel], calendar, pupil.school, at, closed):
        case Open(first, _):
            day, shut = calendar.first_useful_day(group, first), None
        case Shut(opens_at):
            day = calendar.first_useful_day(group, calendar.local(at.earliest).date())
            shut = OutsideWindow(opens_at)
    held = DayPresence(Presence.NO_SERVICE) if day is None else fold(changes, day)
    undoable = next(_undoable(town, pupil, changes, at, closed), None)
    return View(pupil, day, held.presence, held.change, undoable, shut)


def decide(
    town: Town, request: Request, history: History, actor: Actor, at: Reading, closed: ClosedDays = NONE_CLOSED
) -> tuple[Outcome, NewChange | None]:
    """The rules for one request: its outcome, and the change to store where there is one."""
    for earlier in history:
        if earlier.request == request.key:
            return _repeated(earlier, history), None
    changes = standing(history)
    outcome, boundaries = _judge(town, request, changes, actor.channel, at, closed)
    if not isinstance(outcome, _Grant):
        return outcome, None
    change = NewChange(
        pupil=request.pupil.id,
        kind=outcome.kind,
        first=outcome.first,
        last=outcome.last,
        receipt=_receipt(request.key, {each.receipt for each in history}),
        request=request.key,
        channel=actor.channel,
        guardian=actor.guardian,
        session=actor.session,
        decided=at,
        review=not at.synchronised and any(at.is_near(boundary) for boundary in boundaries),
        takes_back=outcome.takes_back.id if outcome.takes_back else None,
    )
    return _accepted(change, outcome.takes_back), change


def _must_be_theirs(actor: Actor, requests: Sequence[Request]) -> None:
    for request in requests:
        if request.pupil.id not in actor.pupils:
            raise NotTheirPupilError(f"{actor.channel} session {actor.session}: pupil {request.pupil.id}")


def _decide_all(
    town: Town, requests: Sequence[Request], kept: Kept, actor: Actor, at: Reading
) -> tuple[Entries, tuple[Outcome, ...]]:
    """The rules for the requests of one transaction, each as the ones before it leave its pupil."""
    outcomes: list[Outcome] = []
    changes: list[NewChange] = []
    refusals: list[Refusal] = []
    so_far = {pupil: tuple(history) for pupil, history in kept.histories.items()}
    for request in requests:
        outcome, change = decide(town, request, so_far[request.pupil.id], actor, at, kept.closed)
        outcomes.append(outcome)
        if change is not None:
            changes.append(change)
            so_far[request.pupil.id] += (_provisional(change, len(changes)),)
        elif isinstance(outcome, Refused):
            refusals.append(_refusal(request, outcome, actor, at))
    return Entries(tuple(changes), tuple(refusals)), tuple(outcomes)


@dataclass(frozen=True, slots=True)
class _Grant:
    """A request that the rules let pass, not yet a change."""

    kind: Kind
    first: date
    last: date | None
    takes_back: Change | None = None


_Judgement = tuple["_Grant | Outcome", tuple[datetime, ...]]


def _judge(
    town: Town, request: Request, changes: Sequence[Change], channel: Channel, at: Reading, closed: ClosedDays
) -> _Judgement:
    """What R31 answers first, or a grant with the boundaries that a doubtful clock might have misjudged (R10)."""
    window, calendar, pupil = town.windows[channel], town.calendar, request.pupil
    match judge(window, calendar, pupil.school, at, closed):
        case Shut(opens_at):
            return OutsideWindow(opens_at), ()
        case Open(first, boundaries):
            reach = _Reach(town, pupil, window, calendar.first_useful_day(town.class_group(pupil), first), at, closed)
    match request.action:
        case Cancel(day):
            answer: _Grant | Outcome = reach.refuses_day(day) or _cancel(changes, day)
        case Bland(day):
            answer = reach.refuses_day(day) or _bland(town, pupil, changes, day)
        case Suspend(day, until):
            answer = reach.refuses_range(day, until, is_chosen=True) or _suspend(town, pupil, changes, day, until)
        case Resume(day):
            answer = reach.refuses_range(day, None, is_chosen=False) or _resume(town, pupil, changes, day)
        case Undo(covered, told):
            refusal = None if covered is None else reach.refuses_date(covered)
            answer = refusal or _undo(town, pupil, changes, covered, told, at, closed)
    if isinstance(answer, _Grant):
        start = calendar.first_useful_day(town.class_group(pupil), answer.first) or answer.first
        boundaries = (*boundaries, calendar.cutoff(pupil.school, answer.first), calendar.cutoff(pupil.school, start))
    return answer, boundaries


@dataclass(frozen=True, slots=True)
class _Reach:
    """How far one channel reaches for one pupil at one instant; `target` is the first useful day of its window (R7)."""

    town: Town
    pupil: Pupil
    window: Window
    target: date | None
    at: Reading
    closed: ClosedDays

    def refuses_date(self, day: date) -> Refused | None:
        """Cutoff and service, as R31 orders them for a single day."""
        calendar, group = self.town.calendar, self.town.class_group(self.pupil)
        if is_closed(calendar, self.pupil.school, day, self.at, self.closed):
            # Who was counted on it is too late, even where an edit has taken the day out since (R25).
            was_counted = self.closed.counts(group.school, group.name, day)
            return self._closed(day, was_counted or calendar.is_served(group, day))
        if not calendar.is_served(group, day):
            return NoService(calendar.first_useful_day(group, day))
        return None

    def refuses_day(self, day: date) -> Refused | None:
        """As `refuses_date`, then how far ahead a single day may lie (R7, R30)."""
        refusal = self.refuses_date(day)
        if refusal is not None:
            return refusal
        match self.window:
            case Anytime():
                last = last_day_ahead(self.window, self.town.calendar, self.at)
            case Evening():
                last = self.target or day
        return TooFar(last) if day > last else None

    def refuses_range(self, first: date, last: date | None, *, is_chosen: bool) -> Refused | None:
        """As R31 orders it for a range; where the window fixes the day (R7) a range that `is_chosen` starts with it."""
        calendar, group = self.town.calendar, self.town.class_group(self.pupil)
        has_closed = self.closed.any_within(self.pupil.school, first, last)
        if has_closed or is_closed(calendar, self.pupil.school, first, self.at):
            return self._closed(first, is_served=True)
        served = next(calendar.service_days(group, first, last), None)
        if served is None:
            return NoService(calendar.first_useful_day(group, first))
        if is_chosen and isinstance(self.window, Evening) and self.target is not None and served > self.target:
            return TooFar(self.target)
        return None

    def _closed(self, day: date, is_served: bool) -> Refused:
        if is_served:
            return TooLate(day, self.town.calendar.cutoff(self.pupil.school, day))
        return NoService(self.target)


def _cancel(changes: Sequence[Change], day: date) -> "_Grant | Outcome":
    held = fold(changes, day)
    match held.presence, held.change:
        case Presence.SUSPENDED, _:
            return SuspendedDay(day)
        case Presence.CANCELLED, Change() as change:
            return AlreadyCancelled(change)
        case _:
            return _Grant(Kind.CANCEL, day, day)


def _bland(town: Town, pupil: Pupil, changes: Sequence[Change], day: date) -> "_Grant | Outcome":
    held = fold(changes, day)
    match held.presence, held.change:
        case Presence.SUSPENDED, _:
            return SuspendedDay(day)
        case Presence.CANCELLED, _:
            return CancelledDay(day)
        case Presence.BLAND, Change() as change:
            return AlreadyBland(change)
        case _:
            limit = town.bland_days_max
            if limit and _bland_run(town, pupil, changes, day) > limit:
                return BlandLimit(limit)
            return _Grant(Kind.BLAND, day, day)


def _bland_run(town: Town, pupil: Pupil, changes: Sequence[Change], day: date) -> int:
    """How many bland meals in a row, over adjacent service days, one on `day` would make (R30)."""
    calendar, group = town.calendar, town.class_group(pupil)
    blands = [change.first for change in changes if change.kind is Kind.BLAND]
    if not blands:
        return 1
    run, first, last = 1, min(*blands, day), max(*blands, day)
    for step in (-ONE_DAY, ONE_DAY):
        other = day + step
        while first <= other <= last:
            if calendar.is_served(group, other):
                if fold(changes, other).presence is not Presence.BLAND:
                    break
                run += 1
            other += step
    return run


def _suspend(
    town: Town, pupil: Pupil, changes: Sequence[Change], first: date, until: date | None
) -> "_Grant | Outcome":
    days = town.calendar.service_days(town.class_group(pupil), first, until)
    if all(fold(changes, day).presence is Presence.SUSPENDED for day in days):
        return AlreadySuspended()
    return _Grant(Kind.SUSPEND, first, until)


def _resume(town: Town, pupil: Pupil, changes: Sequence[Change], first: date) -> "_Grant | Outcome":
    days = town.calendar.service_days(town.class_group(pupil), first)
    if any(fold(changes, day).presence is Presence.SUSPENDED for day in days):
        return _Grant(Kind.RESUME, first, None)
    return NotSuspended()


def _undo(
    town: Town,
    pupil: Pupil,
    changes: Sequence[Change],
    day: date | None,
    told: ChangeId | None,
    at: Reading,
    closed: ClosedDays,
) -> "_Grant | Outcome":
    for change in _undoable(town, pupil, changes, at, closed):
        if (day is None or change.covers(day)) and told in (None, change.id):
            return _Grant(Kind.UNDO, change.first, change.last, takes_back=change)
    return NothingToUndo()


def _undoable(town: Town, pupil: Pupil, changes: Sequence[Change], at: Reading, closed: ClosedDays) -> Iterator[Change]:
    """The standing changes, latest first, that have service days ahead and none that is closed (R16).

    A day that was counted in a closing stays closed where an edit has since taken it out of the calendar (R24).
    """
    counted = tuple(closed.of_class(pupil.school, pupil.class_group))
    for change in reversed(changes):
        start = next(town.calendar.service_days(town.class_group(pupil), change.first, change.last), None)
        if start is None or is_closed(town.calendar, pupil.school, start, at, closed):
            continue
        if not any(map(change.covers, counted)):
            yield change


def _pupil_days(
    town: Town, pupil: Pupil, changes: Sequence[Change], first: date, last: date, closed: ClosedDays
) -> Iterator[PupilDay]:
    """Each day as the calendar has it, or, where it is closed, as it was counted, whatever an edit says since (R24)."""
    for day in dates(first, last):
        status = town.calendar.status(town.class_group(pupil), day)
        was_counted = closed.counts(pupil.school, pupil.class_group, day)
        if closed.has(pupil.school, day) and was_counted != status.is_served:
            status = DayStatus(Service.SERVED if was_counted else Service.CLOSED)
        held = fold(changes, day) if status.is_served else DayPresence(Presence.NO_SERVICE)
        yield PupilDay(day, status, held.presence, held.change)


def _accepted(change: NewChange, taken_back: NewChange | None) -> Outcome:
    match change.kind:
        case Kind.CANCEL:
            return Cancelled(change)
        case Kind.BLAND:
            return BlandMeal(change)
        case Kind.SUSPEND:
            return Suspended(change)
        case Kind.RESUME:
            return Resumed(change)
        case Kind.UNDO:
            if taken_back is None:
                raise ValueError(f"undo {change.request} takes back nothing")
            return Undone(change, taken_back)


def _repeated(change: Change, history: History) -> Outcome:
    """The outcome a request had when it was taken the first time (R20)."""
    taken_back = next((each for each in history if each.id == change.takes_back), None)
    return _accepted(change, taken_back)


def _provisional(change: NewChange, number: int) -> Change:
    """The change as the later requests of its own transaction see it, before the store has given it an id."""
    if change.takes_back is not None and change.takes_back < 0:
        raise ValueError(f"request {change.request}: a change and its undo need a request each")
    values = {field.name: getattr(change, field.name) for field in fields(NewChange)}
    return Change(**values, id=ChangeId(-number))


def _refusal(request: Request, outcome: Refused, actor: Actor, at: Reading) -> Refusal:
    match request.action:
        case Cancel(day) | Bland(day):
            action = "cancel" if isinstance(request.action, Cancel) else "bland"
        case Suspend(day, _):
            action = "suspend"
        case Resume(day):
            action = "resume"
        case Undo(day):
            action = "undo"
    return Refusal(
        request.pupil.id, action, day, outcome.word, request.key, actor.channel, actor.guardian, actor.session, at
    )


def _receipt(key: str, taken: set[str]) -> str:
    """A receipt that is new among its pupil's, and the same for the same request."""
    digits = RECEIPT_DIGITS
    while len(taken) >= RECEIPTS_FULL * 10**digits:
        digits += 1
    number = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) % 10**digits
    while f"{number:0{digits}}" in taken:
        number = (number + 1) % 10**digits
    return f"{number:0{digits}}"
