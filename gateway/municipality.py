"""One municipality as the gateway knows it, and the finding of the right one by the number that was dialled."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from core.desk import Town


@dataclass(frozen=True, slots=True)
class Office:
    """How families reach the school office; `phone` is E.164, every part may be missing."""

    phone: str | None = None
    hours: str | None = None
    address: str | None = None


@dataclass(frozen=True, slots=True)
class Kitchen:
    """Where a municipality's orders go; without an address they go nowhere."""

    name: str | None = None
    email: str | None = None


@dataclass(frozen=True, slots=True)
class Municipality:
    """One municipality (Comune) with its rules in `town`: one immutable value, swapped whole when its files are edited.

    `key` is the name of its folder, `numbers` the dialled numbers (E.164) that reach it, `clock_bound_max` the limit of R10.
    `people_file` is where its people are taken from where a file is the source, None when there is none.
    """

    key: str
    name: str
    languages: tuple[str, ...]
    numbers: tuple[str, ...]
    user_code_digits: int
    pin_digits: int
    clock_bound_max: timedelta
    town: Town
    office: Office | None = None
    kitchen: Kitchen | None = None
    folder: Path | None = None
    people_file: Path | None = None

    @property
    def timezone(self) -> ZoneInfo:
        return self.town.calendar.timezone


class NumberTakenError(ValueError):
    """Two municipalities want to be reached by one number."""

    def __init__(self, number: str, first: Municipality, second: Municipality) -> None:
        super().__init__(f"{number} reaches {first.key} already, {second.key} cannot have it too")
        self.number, self.first, self.second = number, first, second


@dataclass(frozen=True, slots=True)
class Municipalities:
    """All municipalities of one installation, in the order of their keys. Raises `NumberTakenError`."""

    towns: tuple[Municipality, ...]
    _by_number: dict[str, Municipality] = field(init=False, repr=False, compare=False)
    _by_key: dict[str, Municipality] = field(init=False, repr=False, compare=False)

    def __init__(self, towns: Iterable[Municipality] = ()) -> None:
        ordered = tuple(sorted(towns, key=lambda town: town.key))
        by_number: dict[str, Municipality] = {}
        for town in ordered:
            for number in town.numbers:
                if by_number.setdefault(number, town) is not town:
                    raise NumberTakenError(number, by_number[number], town)
        object.__setattr__(self, "towns", ordered)
        object.__setattr__(self, "_by_number", by_number)
        object.__setattr__(self, "_by_key", {town.key: town for town in ordered})

    def __iter__(self) -> Iterator[Municipality]:
        return iter(self.towns)

    def __len__(self) -> int:
        return len(self.towns)

    def reached_by(self, number: str) -> Municipality | None:
        """The municipality that this dialled number (E.164) reaches."""
        return self._by_number.get(number)

    def named(self, key: str) -> Municipality | None:
        return self._by_key.get(key)

    def with_town(self, town: Municipality) -> "Municipalities":
        """These with `town` in place of the one of its key. Raises `NumberTakenError`."""
        return Municipalities((*(each for each in self.towns if each.key != town.key), town))
