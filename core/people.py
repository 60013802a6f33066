"""Who eats and who speaks for them. Values only; persons are erased in the store, never here."""

from dataclasses import dataclass, field
from datetime import date, time
from typing import NewType

PupilId = NewType("PupilId", int)
GuardianId = NewType("GuardianId", int)
CookId = NewType("CookId", int)
# A pupil's number on the credentials letter (codice utente), digits only, unique within a municipality.
UserCode = NewType("UserCode", str)


@dataclass(frozen=True, slots=True)
class Period:
    """The days from `first` through `last`, both included."""

    first: date
    last: date

    def __post_init__(self) -> None:
        if self.last < self.first:
            raise ValueError(f"a period ends before it starts: {self.first}..{self.last}")

    def __contains__(self, day: date) -> bool:
        return self.first <= day <= self.last


@dataclass(frozen=True, slots=True)
class School:
    """A school (plesso): `cutoff` is local time, `service` its own school year where it differs from the town's."""

    key: str
    name: str
    cutoff: time
    service: Period | None = None


@dataclass(frozen=True, slots=True)
class ClassGroup:
    """A class group and the weekdays (Monday is 0) on which its pupils eat at school."""

    school: str
    name: str
    weekdays: frozenset[int]


@dataclass(frozen=True, slots=True)
class Diet:
    """A special diet by its kitchen code; why a pupil has it is nobody's business here."""

    code: str
    first: date | None = None
    last: date | None = None


@dataclass(frozen=True, slots=True)
class Pupil:
    """A pupil as the desks see one: `class_group` is the class group's name within `school`."""

    id: PupilId
    user_code: UserCode
    name: str
    surname: str
    school: str
    class_group: str
    diet: Diet | None = None


@dataclass(frozen=True, slots=True)
class Family:
    """A guardian with the pupils that guardian may act for, in the order of their codes."""

    guardian: GuardianId
    language: str
    pupils: tuple[Pupil, ...]


@dataclass(frozen=True, slots=True)
class NewGuardian:
    """A guardian as enrolled from a file. `phone` is E.164; `pin` is None where one is to be made or kept.

    `recognise` says that this guardian agreed that calls from `phone` need no code (R29).
    """

    name: str
    surname: str
    email: str | None
    phone: str | None
    recognise: bool
    language: str
    pin: str | None


@dataclass(frozen=True, slots=True)
class NewPupil:
    """A pupil as enrolled from a file; `guardians` are indexes into `People.guardians`."""

    user_code: UserCode
    name: str
    surname: str
    codice_fiscale: str | None
    school: str
    class_group: str
    diet: Diet | None
    guardians: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class NewCook:
    """A cook as enrolled from a file; `pin` is None where one is to be made or kept, `schools` empty for every school."""

    code: UserCode
    pin: str | None = field(repr=False)
    schools: tuple[str, ...]
    language: str


@dataclass(frozen=True, slots=True)
class Cooks:
    """Every cook in one file."""

    cooks: tuple[NewCook, ...]


@dataclass(frozen=True, slots=True)
class People:
    """Everybody in one file, each pupil and each guardian once."""

    guardians: tuple[NewGuardian, ...]
    pupils: tuple[NewPupil, ...]
