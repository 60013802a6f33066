"""Invented people in a store, and changes to put into it."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from itertools import count

from core.changes import Change, History, Kind, NewChange
from core.clock import Reading, exactly
from core.people import NewGuardian, NewPupil, People, Pupil, PupilId, UserCode
from core.ports import Entries, Refusal
from core.window import Channel
from gateway.pin_key import KEY_BYTES, KeyedHasher
from gateway.store.port import Town

HASHER = KeyedHasher(bytes(range(KEY_BYTES)))
DAY = date(2026, 11, 24)
EVENING = exactly(datetime(2026, 11, 23, 17, 30, tzinfo=UTC), bound=timedelta(microseconds=41_003))

MOBILE = "+393400000101"
LANDLINE = "+390350000102"


def guardian(
    name: str = "Maria",
    *,
    surname: str = "Verdini",
    email: str | None = "maria@example.org",
    phone: str | None = MOBILE,
    recognise: bool = True,
    language: str = "it",
    pin: str | None = "4711",
) -> NewGuardian:
    return NewGuardian(name, surname, email, phone, recognise, language, pin)


def pupil(code: str, *guardians: int, name: str = "Anna", class_group: str = "1A") -> NewPupil:
    return NewPupil(UserCode(code), name, "Verdini", None, "primaria", class_group, None, guardians)


def people(guardians: tuple[NewGuardian, ...] = (guardian(),), *pupils: NewPupil) -> People:
    return People(guardians, pupils or (pupil("50001", 0), pupil("50002", 0, name="Bruno")))


def no_pin() -> str:
    raise AssertionError("a PIN was made where each guardian has one")


async def enrolled(town: Town, these: People | None = None) -> tuple[Pupil, ...]:
    """The town's pupils, after these people have been taken in."""
    await town.import_people(these or people(), HASHER, no_pin)
    return await town.all_pupils()


_numbers = count(1)


def cancel(pupil: PupilId, **values: object) -> NewChange:
    """A cancelled day; each has a request and a receipt of its own unless `values` say otherwise."""
    number = next(_numbers)
    fields: dict[str, object] = {
        "pupil": pupil,
        "kind": Kind.CANCEL,
        "first": DAY,
        "last": DAY,
        "receipt": f"{number:04}",
        "request": f"request-{number}",
        "channel": Channel.PHONE,
        "guardian": None,
        "session": "call-1",
        "decided": EVENING,
    }
    return NewChange(**(fields | values))  # type: ignore[arg-type]  # the fields of NewChange, by name


def refusal(pupil: PupilId, decided: Reading = EVENING) -> Refusal:
    return Refusal(pupil, "cancel", DAY, "too_late", "request-x", Channel.PORTAL, None, "session-1", decided)


async def add(town: Town, *changes: NewChange) -> None:
    """Put changes into the store as they are, without any rule."""
    await town.transact([change.pupil for change in changes], lambda _: (Entries(changes), None))


async def history(town: Town, pupil: PupilId) -> History:
    return (await town.histories([pupil]))[pupil]


def receipts(histories: Mapping[PupilId, History], pupil: PupilId) -> list[str]:
    return [change.receipt for change in histories[pupil]]


def as_new(change: Change) -> NewChange:
    """The change as it was before the store gave it an id."""
    values = {name: getattr(change, name) for name in NewChange.__slots__}
    return NewChange(**values)
