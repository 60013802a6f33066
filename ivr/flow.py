"""The parents' line: the call as the caller hears it.

Plain `async def` over `Line`, without I/O, so that a coroutine driven by hand can explore every key sequence. Nothing changes
before the confirming key; what is confirmed is the day that was spoken; what is stored is spoken after it is stored.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from core.access import PAUSE, AccessDesk, Actor, Identified, IdentifiedCook, Locked, Wrong
from core.calendar import ONE_DAY
from core.changes import Kind, Presence
from core.clock import Reading
from core.desk import Action, Bland, BookingDesk, Cancel, PupilDay, Request, Resume, Suspend, Undo, View
from core.kitchen import KitchenDesk
from core.outcomes import (
    ABANDONED,
    INFORMED,
    LOCKED,
    NOT_IDENTIFIED,
    Accepted,
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
    Resumed,
    Suspended,
    SuspendedDay,
    TooFar,
    TooLate,
    Undone,
)
from core.people import Family, Pupil, PupilId, UserCode
from core.ports import Clock, Cook, NothingStoredError
from core.window import Channel
from ivr.kitchen_flow import KitchenCall
from ivr.line import (
    FirstName,
    FirstNames,
    HungUp,
    Journal,
    Keys,
    Line,
    Phrase,
    Prompt,
    SpokenDay,
    SpokenDigits,
    SpokenNumber,
    SpokenPhone,
    SpokenTime,
    SpokenWords,
    TownName,
    prompt,
)
from ivr.pending import Pending
from ivr.questions import ROUNDS_MAX, TRIES_MAX, GaveUpError, Questions

# Keys 1 to 8 choose a pupil and 9 all of them; a larger family keys the code of the pupil it means.
PUPILS_MAX = 8
# A service week at a time: more cannot be remembered from hearing.
COMING_DAYS = 5

_OFFERS_UNDO = {
    Kind.CANCEL: "offer-undo-cancel",
    Kind.BLAND: "offer-undo-bland",
    Kind.SUSPEND: "offer-undo-suspend",
    Kind.RESUME: "offer-undo-resume",
}


@dataclass(frozen=True, slots=True)
class Office:
    """Where a caller is sent who cannot be helped here: E.164 and opening hours in words."""

    phone: str
    hours: str


@dataclass(frozen=True, slots=True)
class Greeting:
    """What the line needs to know of the town that was dialled; `town` is its key."""

    town: str
    town_name: str
    languages: tuple[str, ...]
    user_code_digits: int
    pin_digits: int
    office: Office | None


@dataclass(frozen=True, slots=True)
class Desks:
    """Whom the line talks to on the caller's behalf. `new_key` makes idempotency keys."""

    booking: BookingDesk
    access: AccessDesk
    kitchen: KitchenDesk
    clock: Clock
    new_key: Callable[[], str]


async def parents_line(
    line: Line, journal: Journal, greeting: Greeting, desks: Desks, caller: str | None, session: str
) -> str:
    """Guide one caller through one call; returns the word of its outcome.

    `caller` is E.164 or None when withheld. A hang-up is an end like any other; `LineFailed` is not caught.
    """
    call = _Call(line, journal, greeting, desks, caller, session)
    with suppress(HungUp):
        await call.guide()
    word = call.word()
    await line.outcome(word)
    return word


async def complete(
    pending: Pending,
    booking: BookingDesk,
    pupils_of: Callable[[Sequence[PupilId]], Awaitable[Sequence[Pupil]]],
    now: Reading,
) -> tuple[tuple[PupilId, Outcome], ...]:
    """Complete, once, a request whose confirming key was pressed in the moment of hanging up (R18, R20)."""
    pupils = {pupil.id: pupil for pupil in await pupils_of([pupil for pupil, _ in pending.actions])}
    actor = Actor(Channel.PHONE, pending.session, pending.guardian, frozenset(pupils))
    requests = [
        Request(pupils[pupil], action, f"{pending.key}-{pupil}") for pupil, action in pending.actions if pupil in pupils
    ]
    outcomes = await booking.act(actor, requests, pending.decided(now))
    return tuple((request.pupil.id, outcome) for request, outcome in zip(requests, outcomes, strict=True))


def receipts(outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    """The receipts of what was accepted."""
    return tuple(outcome.change.receipt for outcome in outcomes if isinstance(outcome, Accepted))


class _Call:
    """One call: what it knows of the caller, and what it will be remembered for."""

    def __init__(
        self, line: Line, journal: Journal, greeting: Greeting, desks: Desks, caller: str | None, session: str
    ) -> None:
        self._line, self._journal, self._greeting, self._desks = line, journal, greeting, desks
        self._caller, self._session = caller, session
        self._questions = Questions(line, journal)
        self._cook: Cook | None = None
        self._family: Family | None = None
        self._action_word: str | None = None
        # Of the whole call, so that a later fault does not make the line forget an earlier change.
        self._receipts: tuple[str, ...] = ()
        self._refused_word = NOT_IDENTIFIED
        self._was_shut = False
        self._left_a_confirmation = False

    def word(self) -> str:
        """The outcome of the call: of its latest action, or else how it ended."""
        if self._action_word is not None:
            return self._action_word
        if self._cook is not None:
            return INFORMED
        if self._family is None:
            return self._refused_word
        if self._was_shut:
            return OutsideWindow.word
        return ABANDONED if self._left_a_confirmation else INFORMED

    async def guide(self) -> None:
        self._line.language = self._greeting.languages[0]
        await self._line.say(prompt("welcome", town=TownName(self._greeting.town_name)))
        try:
            chosen = await self._chosen_by_number() or await self._chosen_by_code()
            if chosen:
                await self._menu(chosen)
            elif self._cook is not None:
                await self._tell_kitchen(self._cook)
        except GaveUpError:
            await self._say_office()
        await self._line.say(prompt("goodbye"))

    # Who calls, and for whom

    async def _chosen_by_number(self) -> tuple[Pupil, ...] | None:
        family = await self._desks.access.recognise(self._caller)
        if family is None or not 0 < len(family.pupils) <= PUPILS_MAX:
            return None
        self._know(family, "number")
        return await self._choose_pupil()

    async def _chosen_by_code(self) -> tuple[Pupil, ...] | None:
        for _ in range(TRIES_MAX):
            code = await self._questions.ask_digits("enter-code", self._greeting.user_code_digits)
            pin = await self._questions.ask_digits("enter-pin", self._greeting.pin_digits)
            now = self._desks.clock.read().midpoint
            match await self._desks.access.identify(UserCode(code), pin, self._caller, now):
                case Identified(family, pupil):
                    self._know(family, "code")
                    return (pupil,)
                case IdentifiedCook(cook):
                    self._cook = cook
                    self._speak(cook.language)
                    self._journal.note("identified", how="cook")
                    return None
                case Locked(until):
                    self._refused_word = LOCKED
                    self._journal.note("locked")
                    await self._line.say(prompt("locked", time=SpokenTime(self._next_minute(until))))
                    return None
                case Wrong(pause):
                    self._journal.note("wrong_code")
                    await self._line.say(prompt("wrong-code"))
                    if pause:
                        waits = (prompt("silence-2"),) * (pause // PAUSE)
                        await self._line.say(prompt("please-wait"), *waits, interruptible=False)
        raise GaveUpError

    def _know(self, family: Family, how: str) -> None:
        self._family = family
        self._speak(family.language)
        self._journal.note("identified", how=how, pupils=len(family.pupils))

    def _speak(self, language: str) -> None:
        if language in self._greeting.languages:
            self._line.language = language

    async def _tell_kitchen(self, cook: Cook) -> None:
        desks = self._desks
        await KitchenCall(
            self._line,
            self._journal,
            self._questions,
            self._greeting.languages,
            desks.kitchen,
            lambda: desks.booking.town,
            desks.clock,
            cook,
        ).guide()

    async def _choose_pupil(self, chosen: tuple[Pupil, ...] = ()) -> tuple[Pupil, ...]:
        """One of the family's pupils or all of them; `chosen` stay where there is nothing to choose."""
        pupils = self._family.pupils if self._family else ()
        if len(pupils) == 1 or len(pupils) > PUPILS_MAX:
            return chosen or pupils
        question = [
            prompt("choose-pupil", key=Phrase(f"key-{number}"), name=FirstName(pupil.name))
            for number, pupil in enumerate(pupils, 1)
        ]
        question.append(prompt("choose-all"))
        allowed = {str(number): (pupil,) for number, pupil in enumerate(pupils, 1)} | {"9": pupils}
        for _ in range(ROUNDS_MAX):
            key = await self._questions.ask_key(question, {*allowed, "0", "#"}, notes_digits=False)
            if key in allowed:
                return allowed[key]
            if key == "0":
                await self._say_office()
        raise GaveUpError

    # The menu

    async def _menu(self, pupils: tuple[Pupil, ...]) -> None:
        speaks_state = True
        for _ in range(ROUNDS_MAX):
            at = self._desks.clock.read()
            views = await self._desks.booking.views(Channel.PHONE, pupils, at)
            shut = self._shut(views)
            self._was_shut = shut is not None
            offers = self._offers(views, shut)
            state = [*map(self._state, views), *self._shut_prompts(shut)] if speaks_state else []
            speaks_state = True
            allowed = set("0123456*#8" if shut is None and len(self._greeting.languages) > 1 else "0123456*#")
            # The errands alone, then the first of them with what else a caller in trouble may want.
            errands = [each for each in offers if each.id not in {"offer-more", "offer-language"}] or offers
            shorter = (errands, [errands[0], prompt("menu-help")])
            key = await self._questions.ask_key([*state, *offers], allowed, shorter=shorter, notes_digits=False)
            match key:
                case "1" | "2" | "3" | "4" | "5" if shut is not None:
                    await self._refuse(pupils, self._first_guess(key, views, at), at)
                    speaks_state = False
                case "3":
                    await self._suspend(pupils, views, at)
                case "4":
                    await self._resume(pupils, views, at)
                case "1" | "2" | "5":
                    await self._confirm(pupils, self._first_guess(key, views, at))
                case "6":
                    await self._say_coming_days(pupils, views)
                    speaks_state = False
                case "8":
                    languages = self._greeting.languages
                    self._line.language = languages[(languages.index(self._line.language) + 1) % len(languages)]
                    self._journal.note("language", language=self._line.language)
                case "0":
                    await self._say_office()
                    speaks_state = False
                case "#":
                    pupils = await self._choose_pupil(pupils)
                case _:
                    pass

    def _shut(self, views: Sequence[View]) -> OutsideWindow | None:
        """When the line opens again, if it is outside the window of all the pupils chosen."""
        shut = [view.shut for view in views if view.shut is not None]
        return min(shut, key=lambda each: each.opens_at) if len(shut) == len(views) else None

    def _shut_prompts(self, shut: OutsideWindow | None) -> list[Prompt]:
        return [] if shut is None else [self._result(shut)]

    def _state(self, view: View) -> Prompt:
        name = FirstName(view.pupil.name)
        if view.day is None:
            return prompt("state-no-service", name=name)
        return prompt("state", name=name, day=SpokenDay(view.day), presence=_presence(view.presence))

    def _offers(self, views: Sequence[View], shut: OutsideWindow | None) -> list[Prompt]:
        """Only what the day's presence allows; for several pupils, what it allows for any."""
        if shut is not None:
            return [prompt("offer-more")]
        presences = {view.presence for view in views if view.shut is None and view.day is not None}
        offers = []
        if presences & {Presence.PRESENT, Presence.BLAND}:
            offers.append("offer-cancel")
        if Presence.PRESENT in presences:
            offers.append("offer-bland")
        if presences - {Presence.SUSPENDED}:
            offers.append("offer-suspend")
        if Presence.SUSPENDED in presences:
            offers.append("offer-resume")
        undoable = {view.undoable.kind for view in views if view.undoable is not None}
        if len(undoable) == 1:
            offers.append(_OFFERS_UNDO[undoable.pop()])
        elif undoable:
            offers.append("offer-undo")
        offers.append("offer-more")
        if len(self._greeting.languages) > 1:
            offers.append("offer-language")
        return [prompt(offer) for offer in offers]

    async def _say_coming_days(self, pupils: Sequence[Pupil], views: Sequence[View]) -> None:
        for pupil, view in zip(pupils, views, strict=True):
            days: tuple[PupilDay, ...] = ()
            if view.day is not None:
                days = await self._desks.booking.coming_days(pupil, view.day + ONE_DAY, COMING_DAYS)
            name = [prompt("for-pupil", name=FirstName(pupil.name))] if len(pupils) > 1 else []
            said = [prompt("day-state", day=SpokenDay(each.day), presence=_presence(each.presence)) for each in days]
            await self._line.say(*name, *(said or [prompt("no-more-days")]))

    # Changes

    def _first_guess(self, key: str, views: Sequence[View], at: Reading) -> list[Action]:
        """What the key asks for, for each pupil, before anything else is known of it."""
        return [_action(key, self._day(view, at)) for view in views]

    def _day(self, view: View, at: Reading) -> date:
        """The day a change would apply to; past the last one of the year any date gives the right refusal."""
        return view.day or self._desks.booking.town.calendar.local(at.latest).date() + ONE_DAY

    async def _suspend(self, pupils: Sequence[Pupil], views: Sequence[View], at: Reading) -> None:
        actions = self._first_guess("3", views, at)
        if not await self._possible(pupils, actions):
            return
        key = await self._questions.ask_key([prompt("suspend-how")], set("12#"))
        if key == "1":
            await self._confirm(pupils, actions)
        elif key == "2":
            until = await self._ask_date(pupils)
            if until is not None:
                await self._confirm(pupils, [Suspend(self._day(view, at), until) for view in views])

    async def _resume(self, pupils: Sequence[Pupil], views: Sequence[View], at: Reading) -> None:
        actions = self._first_guess("4", views, at)
        if not await self._possible(pupils, actions):
            return
        question = [prompt("resume-how", day=SpokenDay(min(self._day(view, at) for view in views)))]
        key = await self._questions.ask_key(question, set("12#"))
        if key == "1":
            await self._confirm(pupils, actions)
        elif key == "2":
            first = await self._ask_date(pupils)
            if first is not None:
                await self._confirm(pupils, [Resume(first) for _ in pupils])

    async def _possible(self, pupils: Sequence[Pupil], actions: Sequence[Action]) -> bool:
        """Whether any of the actions would be accepted now; if not, the refusal is kept and told."""
        at = self._desks.clock.read()
        outcomes = await self._preview(pupils, actions, at)
        if any(isinstance(outcome, Accepted) for outcome in outcomes):
            return True
        await self._refuse(pupils, actions, at, outcomes)
        return False

    async def _preview(self, pupils: Sequence[Pupil], actions: Sequence[Action], at: Reading) -> tuple[Outcome, ...]:
        return await self._desks.booking.preview(self._actor(), self._requests(pupils, actions, "preview"), at)

    async def _refuse(
        self,
        pupils: Sequence[Pupil],
        actions: Sequence[Action],
        at: Reading,
        outcomes: Sequence[Outcome] | None = None,
    ) -> None:
        """Keep and tell a refusal as it was at `at`: what the rules would grant by now was not confirmed by anybody."""
        if outcomes is None:
            outcomes = await self._preview(pupils, actions, at)
        requests = self._requests(pupils, actions, self._desks.new_key())
        await self._desks.booking.record_refusals(self._actor(), requests, outcomes, at)
        await self._tell(pupils, outcomes)

    async def _confirm(self, pupils: Sequence[Pupil], actions: Sequence[Action]) -> None:
        """Speak what is about to be done, and do it on the key 1 alone."""
        asked_at = self._desks.clock.read()
        key = self._desks.new_key()
        outcomes = await self._preview(pupils, actions, asked_at)
        asked = list(zip(pupils, actions, outcomes, strict=True))
        granted = [(pupil, action, outcome) for pupil, action, outcome in asked if isinstance(outcome, Accepted)]
        if not granted:
            await self._refuse(pupils, actions, asked_at, outcomes)
            return
        question = [*_confirmations([(pupil, outcome) for pupil, _, outcome in granted]), prompt("confirm-keys")]
        # Only those whose names were spoken: another channel may meanwhile allow what was refused for the others.
        named = _Named(
            tuple(pupil for pupil, _, _ in granted),
            tuple(_as_told(action, outcome) for _, action, outcome in granted),
            tuple((pupil, action, outcome) for pupil, action, outcome in asked if not isinstance(outcome, Accepted)),
            asked_at,
        )
        pairs = tuple((pupil.id, action) for pupil, action in zip(named.pupils, named.actions, strict=True))
        guardian = self._actor().guardian
        if guardian is None:
            raise ValueError("nobody was identified")
        self._left_a_confirmation = True
        pending = Pending(self._greeting.town, key, self._session, guardian, asked_at.earliest, pairs)
        try:
            answer = await self._questions.ask_key(question, set("12#"), pending.text())
        except HungUp as hung_up:
            if hung_up.keys == "1":
                await self._act(named, key)
            raise
        if answer == "1":
            await self._act(named, key)
        else:
            await self._line.say(prompt("not-changed"))

    async def _act(self, named: "_Named", key: str) -> None:
        """Take the confirmed actions, commit, and only then say what was done and what was not."""
        at = self._desks.clock.read()
        try:
            with self._desks.booking.deciding(at):
                await self._line.before_saving()
                requests = self._requests(named.pupils, named.actions, key)
                outcomes = await self._desks.booking.act(self._actor(), requests, at)
            self._receipts += receipts(outcomes)
        except NothingStoredError:
            await self._line.saved(self._receipts)
            raise
        await self._line.saved(self._receipts)
        others = [pupil for pupil, _, _ in named.refused]
        refusals = [outcome for _, _, outcome in named.refused]
        requests = self._requests(others, [action for _, action, _ in named.refused], f"{key}-refused")
        await self._desks.booking.record_refusals(self._actor(), requests, refusals, named.asked_at)
        told = dict(zip((pupil.id for pupil in (*named.pupils, *others)), (*outcomes, *refusals), strict=True))
        family = [pupil for pupil in self._family.pupils if pupil.id in told] if self._family else []
        await self._tell(family, [told[pupil.id] for pupil in family])

    async def _tell(self, pupils: Sequence[Pupil], outcomes: Sequence[Outcome]) -> None:
        done = [outcome for outcome in outcomes if isinstance(outcome, Accepted)]
        self._action_word = (done or outcomes)[0].word
        await self._line.outcome(self._action_word)
        # All is noted before anything is said: who hangs up on the first receipt has still changed them all.
        for pupil, outcome in zip(pupils, outcomes, strict=True):
            receipt = outcome.change.receipt if isinstance(outcome, Accepted) else None
            self._journal.note("outcome", pupil=pupil.id, outcome=outcome.word, receipt=receipt)
        told: list[Prompt] = []
        for pupil, outcome in zip(pupils, outcomes, strict=True):
            told += [prompt("for-pupil", name=FirstName(pupil.name))] if len(pupils) > 1 else []
            told.append(self._result(outcome))
        # Where nothing was done, what the caller keyed ahead was meant for another call than this one has become: 4 1 1 resumes,
        # but after a refused 4 the rest would cancel. So a refusal is heard to its end, and keys pressed meanwhile are dropped.
        await self._line.say(*told, interruptible=bool(done))

    def _actor(self) -> Actor:
        guardian = self._family.guardian if self._family else None
        return Actor(
            Channel.PHONE,
            self._session,
            guardian,
            frozenset(pupil.id for pupil in (self._family.pupils if self._family else ())),
        )

    def _requests(self, pupils: Sequence[Pupil], actions: Sequence[Action], key: str) -> list[Request]:
        return [Request(pupil, action, f"{key}-{pupil.id}") for pupil, action in zip(pupils, actions, strict=True)]

    def _result(self, outcome: Outcome) -> Prompt:
        match outcome:
            case Cancelled(change) | BlandMeal(change) | Suspended(change) | Resumed(change) | Undone(change, _):
                at = self._local(change.decided.midpoint)
                return prompt(outcome.word, time=SpokenTime(at), receipt=SpokenDigits(change.receipt))
            case AlreadyCancelled(change) | AlreadyBland(change):
                return prompt(outcome.word, receipt=SpokenDigits(change.receipt))
            case OutsideWindow(opens_at):
                return prompt(outcome.word, time=SpokenTime(self._local(opens_at)))
            case TooFar(last):
                return prompt(outcome.word, day=SpokenDay(last))
            case BlandLimit(days):
                return prompt(outcome.word, number=SpokenNumber(days))
            case (
                AlreadySuspended()
                | NotSuspended()
                | NothingToUndo()
                | TooLate()
                | NoService()
                | SuspendedDay()
                | CancelledDay()
            ):
                return prompt(outcome.word)

    # Questions

    async def _ask_date(self, pupils: Sequence[Pupil]) -> date | None:
        """A day and month that lie in the school year of all the pupils chosen (R15); None when the caller went back."""
        silences = wrong = 0
        asked = [prompt("enter-date")]
        while True:
            keys = await self._questions.ask(asked, 4)
            day = self._date(keys, pupils)
            self._journal.note(
                "asked", heard=" ".join(each.id for each in asked), day=None if day is None else str(day)
            )
            if keys.is_lone_hash:
                return None
            if day is not None:
                return day
            if keys.is_silence:
                silences += 1
                asked = [prompt("enter-date-again")]
            else:
                wrong += 1
                asked = [prompt("date-not-valid"), prompt("enter-date-again")]
            if TRIES_MAX in (silences, wrong):
                raise GaveUpError

    def _date(self, keys: Keys, pupils: Sequence[Pupil]) -> date | None:
        calendar = self._desks.booking.town.calendar
        today = calendar.local(self._desks.clock.read().earliest).date()
        day = first_date(keys.digits, today)
        years = [calendar.school_year(pupil.school) for pupil in pupils]
        return day if day is not None and any(day in year for year in years) else None

    async def _say_office(self) -> None:
        office = self._greeting.office
        if office is None:
            await self._line.say(prompt("no-office"))
        else:
            await self._line.say(
                prompt("offer-office", phone=SpokenPhone(office.phone), hours=SpokenWords(office.hours))
            )

    def _local(self, instant: datetime) -> time:
        return self._desks.booking.town.calendar.local(instant).time()

    def _next_minute(self, instant: datetime) -> time:
        """The first whole minute that is not before `instant`, so that nobody is told to try too soon."""
        whole = instant.replace(second=0, microsecond=0)
        return self._local(whole if whole == instant else whole + timedelta(minutes=1))


@dataclass(frozen=True, slots=True)
class _Named:
    """What one confirmation is about: the pupils it named with their actions, and those for whom it could not be done."""

    pupils: tuple[Pupil, ...]
    actions: tuple[Action, ...]
    refused: tuple[tuple[Pupil, Action, Outcome], ...]
    asked_at: Reading


def first_date(digits: str, today: date) -> date | None:
    """The first date from `today` on that is keyed as DDMM (R15); None where there is none within the leap-year cycle."""
    if len(digits) != 4 or not digits.isdecimal():
        return None
    day, month = int(digits[:2]), int(digits[2:])
    # Eight years: the longest that a 29 February can be away, across a century without one.
    for year in range(today.year, today.year + 9):
        try:
            keyed = date(year, month, day)
        except ValueError:
            continue
        if keyed >= today:
            return keyed
    return None


def _action(key: str, day: date) -> Action:
    match key:
        case "1":
            return Cancel(day)
        case "2":
            return Bland(day)
        case "3":
            return Suspend(day)
        case "4":
            return Resume(day)
        case "5":
            return Undo()
        case _:
            raise ValueError(f"key {key!r} is no action")


def _as_told(action: Action, outcome: Outcome) -> Action:
    """The action with what its confirmation says of it: an undo takes back the change that is spoken, or none."""
    return Undo(change=outcome.change.takes_back) if isinstance(outcome, Undone) else action


def _presence(presence: Presence) -> Phrase:
    return Phrase(f"presence-{presence.value.replace('_', '-')}")


def _confirmations(granted: Sequence[tuple[Pupil, Accepted]]) -> list[Prompt]:
    """What would be done, each sentence once for all the pupils it is the same for."""
    sentences: dict[tuple[str, date, date | None, Kind | None], list[str]] = {}
    for pupil, outcome in granted:
        sentences.setdefault(_sentence(outcome), []).append(pupil.name)
    prompts: list[Prompt] = []
    for (id_, day, until, undone), names in sentences.items():
        slots = {"names": FirstNames(tuple(names))}
        if undone is not None:
            prompts.append(prompt(id_, **slots, what=Phrase(f"undo-{undone.value}"), day=SpokenDay(day)))
            continue
        prompts.append(prompt(id_, **slots, day=SpokenDay(day)))
        if id_ == "confirm-suspend":
            prompts.append(
                prompt("until-further-notice") if until is None else prompt("until-day", day=SpokenDay(until))
            )
    return prompts


def _sentence(outcome: Accepted) -> tuple[str, date, date | None, Kind | None]:
    match outcome:
        case Cancelled(change):
            return "confirm-cancel", change.first, None, None
        case BlandMeal(change):
            return "confirm-bland", change.first, None, None
        case Suspended(change):
            return "confirm-suspend", change.first, change.last, None
        case Resumed(change):
            return "confirm-resume", change.first, None, None
        case Undone(_, taken_back):
            return "confirm-undo", taken_back.first, None, taken_back.kind
