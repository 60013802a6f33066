"""One municipality as the gateway knows it, and the finding of the right one by dialled number, host name or bot."""

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import timedelta
from enum import StrEnum
from functools import cache, cached_property
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

    `key` is the name of its folder; `numbers` (E.164), `hosts` and `bot` (both in small letters) are the addresses that reach
    it; `clock_bound_max` is the limit of R10.
    `people_file` is where its people are taken from where a file is the source, None when there is none.
    `digest` is a hash of what its files say, wherever they stand: equal for equal values, on every node.
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
    folder: Path | None = field(default=None, metadata={"said": False})
    people_file: Path | None = field(default=None, metadata={"said": False})
    hosts: tuple[str, ...] = ()
    bot: str | None = None
    digest: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", hashlib.sha256(_said(self).encode()).hexdigest())

    @property
    def timezone(self) -> ZoneInfo:
        return self.town.calendar.timezone

    def addresses(self, by: "By") -> tuple[str, ...]:
        match by:
            case By.NUMBER:
                return self.numbers
            case By.HOST:
                return self.hosts
            case By.BOT:
                return (self.bot,) if self.bot else ()


class By(StrEnum):
    """How a municipality is reached, by the key of municipality.yaml that says it."""

    NUMBER = "numbers"
    HOST = "hosts"
    BOT = "bot"


class AddressTakenError(ValueError):
    """Two municipalities want to be reached by one number, host name or bot."""

    def __init__(self, by: By, address: str, first: Municipality, second: Municipality) -> None:
        super().__init__(f"{address} reaches {first.key} already, {second.key} cannot have it too")
        self.by, self.address, self.first, self.second = by, address, first, second


@dataclass(frozen=True, init=False)
class Municipalities:
    """All municipalities of one installation, in the order of their keys. Raises `AddressTakenError`."""

    towns: tuple[Municipality, ...]
    _by_key: Mapping[str, Municipality] = field(repr=False, compare=False)
    _reached: Mapping[By, Mapping[str, Municipality]] = field(repr=False, compare=False)

    def __init__(self, towns: Iterable[Municipality] = ()) -> None:
        _, taken = self._gather(sorted(towns, key=lambda town: town.key))
        if taken:
            raise taken[0]

    @classmethod
    def gathered(cls, towns: Iterable[Municipality]) -> "tuple[Municipalities, tuple[AddressTakenError, ...]]":
        """Those of `towns` that can be served together, the first in the order of their keys before the others.

        For each that has to be left out, the first of its addresses that is taken.
        """
        self = cls.__new__(cls)
        return self._gather(sorted(towns, key=lambda town: town.key))

    def __iter__(self) -> Iterator[Municipality]:
        return iter(self.towns)

    def __len__(self) -> int:
        return len(self.towns)

    def reached_by(self, number: str) -> Municipality | None:
        """The municipality that this dialled number (E.164) reaches."""
        return self._reached[By.NUMBER].get(number)

    def at_host(self, host: str) -> Municipality | None:
        """The municipality of a host name as a browser sends it: letters large or small, with or without a port."""
        return self._reached[By.HOST].get(host.partition(":")[0].rstrip(".").lower())

    def with_bot(self, name: str) -> Municipality | None:
        """The municipality of a Telegram bot by its user name: letters large or small, with or without the @."""
        return self._reached[By.BOT].get(name.removeprefix("@").lower())

    def named(self, key: str) -> Municipality | None:
        return self._by_key.get(key)

    @cached_property
    def digest(self) -> str:
        """A hash over all towns' digests: equal where every town is."""
        return hashlib.sha256("".join(f"{town.key} {town.digest}\n" for town in self.towns).encode()).hexdigest()

    def with_town(self, town: Municipality) -> "Municipalities":
        """These with `town` in place of the one of its key. Raises `AddressTakenError`."""
        taken = self.taken(town)
        if taken is not None:
            raise taken
        towns, by_key, reached = self._others(town.key)
        towns.insert(bisect_left(towns, town.key, key=lambda each: each.key), town)
        by_key[town.key] = town
        for by in By:
            reached[by].update(dict.fromkeys(town.addresses(by), town))
        return Municipalities._of(tuple(towns), by_key, reached)

    def without(self, key: str) -> "Municipalities":
        """These without the one of this key, if there is one."""
        towns, by_key, reached = self._others(key)
        return Municipalities._of(tuple(towns), by_key, reached)

    def taken(self, town: Municipality) -> AddressTakenError | None:
        """What keeps `town` from being served beside the others: the first of its addresses that another one has."""
        for by in By:
            for address in town.addresses(by):
                first = self._reached[by].get(address)
                if first is not None and first.key != town.key:
                    return AddressTakenError(by, address, first, town)
        return None

    def _others(
        self, key: str
    ) -> tuple[list[Municipality], dict[str, Municipality], dict[By, dict[str, Municipality]]]:
        """Everything as it is without the town of this key, to be changed."""
        towns, by_key = list(self.towns), dict(self._by_key)
        reached = {by: dict(each) for by, each in self._reached.items()}
        gone = by_key.pop(key, None)
        if gone is not None:
            del towns[bisect_left(towns, key, key=lambda each: each.key)]
            for by in By:
                for address in gone.addresses(by):
                    del reached[by][address]
        return towns, by_key, reached

    @classmethod
    def _of(
        cls,
        towns: tuple[Municipality, ...],
        by_key: Mapping[str, Municipality],
        reached: Mapping[By, Mapping[str, Municipality]],
    ) -> "Municipalities":
        self = cls.__new__(cls)
        self._set(towns, by_key, reached)
        return self

    def _gather(self, towns: Iterable[Municipality]) -> "tuple[Municipalities, tuple[AddressTakenError, ...]]":
        by_key: dict[str, Municipality] = {}
        reached: dict[By, dict[str, Municipality]] = {by: {} for by in By}
        self._set((), by_key, reached)
        taken: list[AddressTakenError] = []
        for town in towns:
            error = self.taken(town)
            if error is not None:
                taken.append(error)
                continue
            by_key[town.key] = town
            for by in By:
                reached[by].update(dict.fromkeys(town.addresses(by), town))
        self._set(tuple(by_key.values()), by_key, reached)
        return self, tuple(taken)

    def _set(
        self,
        towns: tuple[Municipality, ...],
        by_key: Mapping[str, Municipality],
        reached: Mapping[By, Mapping[str, Municipality]],
    ) -> None:
        for name, value in (("towns", towns), ("_by_key", by_key), ("_reached", reached)):
            object.__setattr__(self, name, value)


def _said(value: object) -> str:
    """A value in words of its own: the same for equal values, whatever the order of its tables and sets."""
    match value:
        case str() | int() | None:
            return repr(value)
        case tuple() | list():
            return f"[{','.join(map(_said, value))}]"
        case dict():
            return f"{{{','.join(sorted(f'{_said(key)}:{_said(each)}' for key, each in value.items()))}}}"
        case frozenset():
            return f"{{{','.join(sorted(map(_said, value)))}}}"
        case ZoneInfo():
            return repr(value.key)
        case _ if is_dataclass(value) and not isinstance(value, type):
            said = ",".join(f"{name}={_said(getattr(value, name))}" for name in _fields_said(type(value)))
            return f"{type(value).__name__}({said})"
        case _:
            return repr(value)


@cache
def _fields_said(kind: type) -> tuple[str, ...]:
    """What of a value counts: what makes it equal to another, and does not depend on where its files stand."""
    return tuple(each.name for each in fields(kind) if each.compare and each.metadata.get("said", True))
