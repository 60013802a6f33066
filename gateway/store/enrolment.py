"""Who in a people's file is whom in the store: pure, the same for every store.

A pupil is known by the user code. A guardian is known by the email; where neither side has one, by the phone; and else by
phone and name together, for an email that changed or was added: two people who share a telephone stay two. Nobody in the
store is taken for two in the file.

The guardians that a file names for a pupil replace those the pupil had; a pupil without any in the file keeps them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from core.access import number_digest, pin_digest
from core.people import GuardianId, NewGuardian, NewPupil, People, PupilId, UserCode
from core.ports import PinHasher
from gateway.store.port import ImportReport, MadePin

# A made PIN that another guardian of the same pupil has is made again: at four digits even the third try is rare, and a
# maker that never gives another is broken.
PIN_TRIES_MAX = 100


@dataclass(frozen=True, slots=True)
class GuardianRecord:
    """A guardian as stored; personal data is left out of what is shown."""

    id: GuardianId
    name: str = field(default="", repr=False)
    surname: str = field(default="", repr=False)
    email: str | None = field(default=None, repr=False)
    phone: str | None = field(default=None, repr=False)
    number_digest: str | None = field(default=None, repr=False)
    pin_digest: str | None = field(default=None, repr=False)
    language: str = ""


@dataclass(frozen=True, slots=True)
class PupilRecord:
    """A pupil as stored: `enrolled` without its guardians, who are in the order of their ids."""

    id: PupilId
    enrolled: NewPupil
    guardians: tuple[GuardianId, ...]


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What a file makes of the store: every guardian and pupil of the file as they then stand, in the file's order.

    The id of a pupil is None where it is new; `pupils` has the ids of the guardians.
    """

    guardians: tuple[GuardianRecord, ...]
    pupils: tuple[tuple[PupilId | None, NewPupil, tuple[GuardianId, ...]], ...]
    report: ImportReport


def match_guardians(new: Sequence[NewGuardian], stored: Sequence[GuardianRecord]) -> tuple[GuardianId | None, ...]:
    """For each guardian of a file the stored one it is, None for a new one."""
    found: dict[int, GuardianId] = {}
    claimed: set[GuardianId] = set()
    for key_of in (_email, _phone_without_email, _phone_and_name):
        by_key: dict[object, GuardianId] = {}
        for each in stored:
            if each.id not in claimed:
                by_key.setdefault(key_of(each), each.id)
        by_key.pop(None, None)
        for index, guardian in enumerate(new):
            if index not in found and (match := by_key.pop(key_of(guardian), None)) is not None:
                found[index] = match
                claimed.add(match)
    return tuple(found.get(index) for index in range(len(new)))


def enrol(
    people: People,
    ids: Sequence[GuardianId],
    stored_guardians: Mapping[GuardianId, GuardianRecord],
    stored_pupils: Mapping[UserCode, PupilRecord],
    hasher: PinHasher,
    make_pin: Callable[[], str],
) -> Enrolment:
    """What `people` make of the store, where `ids` are the ids of `people.guardians`, new ones included."""
    guardians: dict[GuardianId, GuardianRecord] = {}
    pins: list[MadePin] = []
    beside = _beside(people, ids)
    # Given and kept PINs first, so that a made one can keep clear of them.
    for id_, new in zip(ids, people.guardians, strict=True):
        kept = stored_guardians[id_].pin_digest if id_ in stored_guardians else None
        guardians[id_] = GuardianRecord(
            id_,
            new.name,
            new.surname,
            new.email,
            new.phone,
            number_digest(hasher, new.phone) if new.recognise and new.phone is not None else None,
            kept if new.pin is None else pin_digest(hasher, id_, new.pin),
            new.language,
        )
    for index, id_ in enumerate(ids):
        if guardians[id_].pin_digest is None:
            pin = _unlike(make_pin, hasher, [guardians[other] for other in beside[id_]])
            guardians[id_] = replace(guardians[id_], pin_digest=pin_digest(hasher, id_, pin))
            pins.append(MadePin(id_, index, pin))
    pupils: list[tuple[PupilId | None, NewPupil, tuple[GuardianId, ...]]] = []
    updated = 0
    for pupil in people.pupils:
        stored = stored_pupils.get(pupil.user_code)
        named = tuple(sorted({ids[index] for index in pupil.guardians}))
        enrolled = replace(pupil, guardians=())
        if stored is None:
            pupils.append((None, enrolled, named))
            continue
        named = named or stored.guardians
        updated += (enrolled, named) != (stored.enrolled, stored.guardians)
        pupils.append((stored.id, enrolled, named))
    known = [id_ for id_ in ids if id_ in stored_guardians]
    added = sum(id_ is None for id_, _, _ in pupils)
    return Enrolment(
        tuple(guardians[id_] for id_ in ids),
        tuple(pupils),
        ImportReport(
            pupils_added=added,
            pupils_updated=updated,
            pupils_absent=len(stored_pupils) - (len(pupils) - added),
            guardians_added=len(ids) - len(known),
            guardians_updated=sum(guardians[id_] != stored_guardians[id_] for id_ in known),
            pins=tuple(pins),
        ),
    )


def _email(guardian: NewGuardian | GuardianRecord) -> object:
    return guardian.email.casefold() if guardian.email else None


def _phone_without_email(guardian: NewGuardian | GuardianRecord) -> object:
    return guardian.phone if guardian.phone and not guardian.email else None


def _phone_and_name(guardian: NewGuardian | GuardianRecord) -> object:
    return (guardian.phone, guardian.name.casefold(), guardian.surname.casefold()) if guardian.phone else None


def _beside(people: People, ids: Sequence[GuardianId]) -> Mapping[GuardianId, set[GuardianId]]:
    """Who speaks for a pupil together with whom, in the file."""
    beside: dict[GuardianId, set[GuardianId]] = {id_: set() for id_ in ids}
    for pupil in people.pupils:
        together = {ids[index] for index in pupil.guardians}
        for id_ in together:
            beside[id_] |= together - {id_}
    return beside


def _unlike(make_pin: Callable[[], str], hasher: PinHasher, others: Sequence[GuardianRecord]) -> str:
    """A PIN that tells its guardian from the `others` of the same pupils, whose code is the same."""
    for _ in range(PIN_TRIES_MAX):
        pin = make_pin()
        if not any(other.pin_digest == pin_digest(hasher, other.id, pin) for other in others):
            return pin
    raise ValueError(
        f"making a PIN: the last {PIN_TRIES_MAX} were all taken; expected a maker that varies; nothing was kept"
    )
