"""An invented town as values, and two desks for tests: one over a list of changes, one over a store made of dictionaries."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import date, datetime, time, timedelta
from typing import TypeVar
from zoneinfo import ZoneInfo

from core.access import Actor, number_digest, pin_digest
from core.calendar import NONE_CLOSED, ClosedDays, CutoffOverride, DayException, ServiceCalendar
from core.changes import Change, ChangeId, History, NewChange, Presence, fold, standing
from core.clock import Reading, exactly
from core.desk import Action, Request, Town, View, decide, view
from core.outcomes import Outcome
from core.people import ClassGroup, Family, GuardianId, Period, Pupil, PupilId, School, UserCode
from core.ports import NO_SCHOOLS, Attempts, Cook, Credential, Entries, Kept, Refusal, WrongAnswer
from core.window import Anytime, Channel, Evening, Window

ROME = ZoneInfo("Europe/Rome")
SCHOOL_YEAR = Period(date(2026, 9, 14), date(2027, 6, 8))
PATRON = date(2026, 11, 11)
HOLIDAYS = {
    date(2026, 10, 4): "San Francesco",
    date(2026, 11, 1): "Ognissanti",
    date(2026, 12, 8): "Immacolata",
    date(2026, 12, 25): "Natale",
    date(2026, 12, 26): "Santo Stefano",
    date(2027, 1, 1): "Capodanno",
    date(2027, 1, 6): "Epifania",
    date(2027, 3, 28): "Pasqua",
    date(2027, 3, 29): "Lunedì dell'Angelo",
    date(2027, 4, 25): "Liberazione",
    date(2027, 5, 1): "Lavoro",
    date(2027, 6, 2): "Repubblica",
}
PRIMARIA = School("primaria", "Scuola primaria", time(9, 30))
# The infants' school starts a week later, ends three weeks later, and closes its days earlier.
INFANZIA = School("infanzia", "Scuola dell'infanzia", time(8, 45), Period(date(2026, 9, 21), date(2027, 6, 30)))
SECONDARIA = School("secondaria", "Scuola secondaria", time(10, 0))
SCHOOLS = {school.key: school for school in (PRIMARIA, INFANZIA, SECONDARIA)}
EVERY_SCHOOL_DAY = frozenset(range(5))
CLASS_1A = ClassGroup("primaria", "1A", EVERY_SCHOOL_DAY)
CLASS_3B = ClassGroup("primaria", "3B", frozenset({0, 3}))
CLASS_BLU = ClassGroup("infanzia", "Blu", EVERY_SCHOOL_DAY)
CLASS_2C = ClassGroup("secondaria", "2C", frozenset({1, 2}))
CLASSES = {(group.school, group.name): group for group in (CLASS_1A, CLASS_3B, CLASS_BLU, CLASS_2C)}

ANNA = Pupil(PupilId(1), UserCode("50001"), "Anna", "Verdini", "primaria", "1A")
BRUNO = Pupil(PupilId(2), UserCode("50002"), "Bruno", "Verdini", "primaria", "3B")
CARLA = Pupil(PupilId(3), UserCode("50003"), "Carla", "Verdini", "infanzia", "Blu")
DARIO = Pupil(PupilId(4), UserCode("50004"), "Dario", "Montalto", "secondaria", "2C")
VERDINI = Family(GuardianId(11), "it", (ANNA, BRUNO, CARLA))
MONTALTO = Family(GuardianId(12), "it", (DARIO,))

LOOK_AHEAD_DAYS = 60
BLAND_DAYS_MAX = 3
OPENS = time(18, 0)


def calendar(
    *exceptions: DayException, cutoffs: Iterable[CutoffOverride] = (), patron: date | None = PATRON
) -> ServiceCalendar:
    return ServiceCalendar(ROME, SCHOOL_YEAR, SCHOOLS, CLASSES, HOLIDAYS, patron, exceptions, tuple(cutoffs))


def town(
    service_calendar: ServiceCalendar | None = None,
    *,
    look_ahead_days: int = LOOK_AHEAD_DAYS,
    bland_days_max: int = BLAND_DAYS_MAX,
) -> Town:
    anytime = Anytime(look_ahead_days)
    windows: dict[Channel, Window] = {
        Channel.PHONE: Evening(OPENS),
        Channel.PORTAL: anytime,
        Channel.TELEGRAM: anytime,
        Channel.OFFICE: anytime,
    }
    return Town(service_calendar or calendar(), windows, bland_days_max)


def closed(
    first: str, last: str | None = None, *, school: str | None = None, class_group: str | None = None
) -> DayException:
    return _exception(first, last, school, class_group, opens=False)


def opened(
    first: str, last: str | None = None, *, school: str | None = None, class_group: str | None = None
) -> DayException:
    return _exception(first, last, school, class_group, opens=True)


def _exception(
    first: str, last: str | None, school: str | None, class_group: str | None, *, opens: bool
) -> DayException:
    days = Period(day(first), day(last or first))
    return DayException(days, opens, school=school, class_group=class_group)


def cutoff(on: str, at: str, *, school: str | None = None) -> CutoffOverride:
    return CutoffOverride(day(on), time.fromisoformat(at), school=school)


def day(text: str) -> date:
    return date.fromisoformat(text)


def local(text: str, *, fold: int = 0) -> datetime:
    """The instant at which Rome's wall clock shows `text`; `fold=1` is the second pass of a repeated hour."""
    return datetime.fromisoformat(text).replace(tzinfo=ROME, fold=fold)


def at(text: str, *, bound_ms: float = 0, synchronised: bool = True, fold: int = 0) -> Reading:
    reading = exactly(local(text, fold=fold), bound=timedelta(milliseconds=bound_ms), source="test")
    return replace(reading, synchronised=synchronised)


def stored(change: NewChange, id_: int) -> Change:
    """The change as a store that has given it `id_` returns it."""
    return Change(**{each.name: getattr(change, each.name) for each in fields(NewChange)}, id=ChangeId(id_))


@dataclass(slots=True)
class PaperDesk:
    """One pupil's desk over a list: what `decide` accepts is written down, nothing else happens.

    `town` may be changed between requests, as an edit of the calendar does.
    """

    town: Town = field(default_factory=town)
    pupil: Pupil = ANNA
    history: list[Change] = field(default_factory=list)

    def ask(
        self,
        action: Action,
        when: str | Reading,
        *,
        by: Channel = Channel.PORTAL,
        key: str | None = None,
    ) -> Outcome:
        reading = at(when) if isinstance(when, str) else when
        request = Request(self.pupil, action, key or f"request-{len(self.history)}")
        actor = Actor(by, "session", VERDINI.guardian, frozenset({self.pupil.id}))
        outcome, change = decide(self.town, request, self.history, actor, reading)
        if change is not None:
            self.history.append(stored(change, len(self.history) + 1))
        return outcome

    def phone(self, action: Action, when: str | Reading) -> Outcome:
        return self.ask(action, when, by=Channel.PHONE)

    def view(self, when: str | Reading, by: Channel = Channel.PHONE) -> View:
        return view(self.town, self.pupil, self.history, by, at(when) if isinstance(when, str) else when)

    def presence(self, on: str | date) -> Presence:
        """What the pupil gets on a date, derived as everybody derives it (R2, R32)."""
        asked = day(on) if isinstance(on, str) else on
        if not self.town.calendar.is_served(self.town.class_group(self.pupil), asked):
            return Presence.NO_SERVICE
        return fold(standing(self.history), asked).presence

    def presences(self, days: Iterable[date]) -> dict[date, Presence]:
        return {each: self.presence(each) for each in days}


class PlainHasher:
    """A digest without a key: equal texts have equal digests, and no text can be read from one."""

    def digest(self, text: str) -> str:
        return hashlib.sha256(text.encode()).hexdigest()


Answer = TypeVar("Answer")


@dataclass(slots=True)
class PaperStore:
    """A town's store made of dictionaries. `pins` and `numbers` are what guardians have; both hold digests."""

    families: Sequence[Family] = (VERDINI, MONTALTO)
    credentials_of: dict[GuardianId, Credential] = field(default_factory=dict)
    recognised: dict[str, list[GuardianId]] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    wrong: list[WrongAnswer] = field(default_factory=list)
    closed: ClosedDays = NONE_CLOSED
    cooks: dict[UserCode, Cook] = field(default_factory=dict)
    transactions: int = 0

    def give_pin(self, guardian: GuardianId, pin: str) -> None:
        self.credentials_of[guardian] = Credential(guardian, pin_digest(PlainHasher(), guardian, pin))

    def agree_to_number(self, guardian: GuardianId, number: str) -> None:
        self.recognised.setdefault(number_digest(PlainHasher(), number), []).append(guardian)

    async def pupil(self, code: UserCode) -> Pupil | None:
        return next((each for each in self._pupils() if each.user_code == code), None)

    async def pupils(self, ids: Sequence[PupilId]) -> tuple[Pupil, ...]:
        return tuple(each for each in self._pupils() if each.id in ids)

    async def family(self, guardian: GuardianId) -> Family | None:
        return next((each for each in self.families if each.guardian == guardian), None)

    async def family_by_number(self, number_digest: str) -> Family | None:
        guardians = self.recognised.get(number_digest, [])
        return await self.family(guardians[0]) if len(guardians) == 1 else None

    async def credentials(self, pupil: PupilId) -> tuple[Credential, ...]:
        speaking = [each.guardian for each in self.families if any(one.id == pupil for one in each.pupils)]
        return tuple(self.credentials_of[each] for each in speaking if each in self.credentials_of)

    async def histories(self, pupils: Sequence[PupilId]) -> Mapping[PupilId, History]:
        return {pupil: tuple(each for each in self.changes if each.pupil == pupil) for pupil in pupils}

    async def closed_days(self, schools: Mapping[str, date]) -> ClosedDays:
        kept = {school: self.closed.days.get(school, {}) for school in schools}
        return ClosedDays(
            {school: {day: groups for day, groups in kept[school].items() if day >= schools[school]} for school in kept}
        )

    async def cook(self, code: UserCode) -> Cook | None:
        return self.cooks.get(code)

    async def transact(
        self,
        pupils: Sequence[PupilId],
        decide: Callable[[Kept], tuple[Entries, Answer]],
        schools: Mapping[str, date] = NO_SCHOOLS,
    ) -> Answer:
        entries, answer = decide(Kept(await self.histories(pupils), await self.closed_days(schools)))
        for change in entries.changes:
            self.changes.append(stored(change, len(self.changes) + 1))
        self.refusals += entries.refusals
        self.transactions += 1
        return answer

    async def transact_attempt(
        self,
        code_digest: str,
        caller_digest: str | None,
        decide: Callable[[Attempts], tuple[WrongAnswer | None, Answer]],
        since: datetime,
        caller_since: datetime,
    ) -> Answer:
        for_code = tuple(each.at for each in self.wrong if each.code_digest == code_digest and each.at >= since)
        of_caller = {
            each.code_digest
            for each in self.wrong
            if caller_digest is not None and each.caller_digest == caller_digest and each.at >= caller_since
        }
        wrong, answer = decide(Attempts(for_code, len(of_caller)))
        if wrong is not None:
            self.wrong.append(wrong)
        return answer

    def _pupils(self) -> list[Pupil]:
        return sorted((pupil for family in self.families for pupil in family.pupils), key=lambda each: each.user_code)
