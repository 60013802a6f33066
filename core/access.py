"""Who may act for whom: recognised numbers, codes and PINs, and the lock against guessing (R28, R29)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from core.people import CookId, Family, GuardianId, Pupil, PupilId, UserCode
from core.ports import Attempts, Cook, PinHasher, TownStore, WrongAnswer
from core.window import Channel

# R28 gives all four; a family that mistypes is helped by the office sooner than a guesser by patience.
WRONG_PINS_MAX = 5
WRONG_PINS_WITHIN = timedelta(minutes=15)
LOCK = timedelta(minutes=15)
LOCKS_DOUBLE_WITHIN = timedelta(days=1)
# A caller who got this many different codes wrong within the hour is going through a list, not mistyping an own one.
CODES_BEFORE_SLOWING = 3
SLOWING_WITHIN = timedelta(hours=1)
# Beyond half a minute a slowed caller would only hold a channel of the town's line.
PAUSE = timedelta(seconds=2)
PAUSES_MAX = 15
# Failures are looked at as far back as they can still lengthen a lock: the doubling day, and the longest lock within it.
ATTEMPTS_KEPT = 2 * LOCKS_DOUBLE_WITHIN


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks, through which channel, and for which pupils that one may; `session` is the call, chat or session."""

    channel: Channel
    session: str
    guardian: GuardianId | None
    pupils: frozenset[PupilId]


@dataclass(frozen=True, slots=True)
class Identified:
    family: Family
    pupil: Pupil


@dataclass(frozen=True, slots=True)
class IdentifiedCook:
    """Who may hear the kitchen's counts, and nothing else: no pupil is told, no change is made."""

    cook: Cook


@dataclass(frozen=True, slots=True)
class Wrong:
    """The code or the PIN is wrong; `pause` is how long a caller who tries many codes is made to wait."""

    pause: timedelta


@dataclass(frozen=True, slots=True)
class Locked:
    """The code is locked until then (UTC), whoever asks."""

    until: datetime


def locked_until(wrong: Sequence[datetime]) -> datetime | None:
    """When the latest lock that these wrong answers (oldest first) brought about ends; None when they brought about none."""
    locks: list[datetime] = []
    until: datetime | None = None
    counted: list[datetime] = []
    for at in wrong:
        counted = [each for each in counted if at - each < WRONG_PINS_WITHIN] + [at]
        if len(counted) >= WRONG_PINS_MAX:
            doublings = sum(at - lock < LOCKS_DOUBLE_WITHIN for lock in locks)
            until = at + LOCK * 2**doublings
            locks.append(at)
            counted = []
    return until


class AccessDesk:
    """Tells callers apart; the one place where codes and PINs are judged."""

    def __init__(self, store: TownStore, hasher: PinHasher) -> None:
        self._store = store
        self._hasher = hasher

    async def recognise(self, number: str | None) -> Family | None:
        """The guardian whose number (E.164) this is and who agreed to be known by it (R29)."""
        if number is None:
            return None
        return await self._store.family_by_number(number_digest(self._hasher, number))

    async def identify(
        self, code: UserCode, pin: str, caller: str | None, at: datetime
    ) -> Identified | IdentifiedCook | Wrong | Locked:
        """Judge a keyed code and PIN; an unknown code is counted and answered like a known one (R28).

        `caller` is the number or address the attempt came from, None when withheld: such callers are not taken for one.
        """
        # Both, whichever it is: a cook's code takes as long as one that nobody has.
        pupil, cook = await self._store.pupil(code), await self._store.cook(code)
        credentials = await self._store.credentials(pupil.id) if pupil else ()
        matching = [each for each in credentials if each.pin_digest == pin_digest(self._hasher, each.guardian, pin)]
        family = await self._store.family(matching[0].guardian) if matching else None
        if family is not None and pupil is not None and len(matching) > 1:
            # Two guardians of one pupil with the same PIN: either may act for this pupil, neither for the other's family.
            family = replace(family, pupils=(pupil,))
        is_cook = cook is not None and cook.pin_digest == cook_pin_digest(self._hasher, cook.id, pin)
        code_digest = self._hasher.digest(f"code:{code}")
        caller_digest = None if caller is None else self._hasher.digest(f"caller:{caller}")

        def decide(attempts: Attempts) -> tuple[WrongAnswer | None, Identified | IdentifiedCook | Wrong | Locked]:
            until = locked_until(attempts.for_code)
            if until is not None and at < until:
                return None, Locked(until)
            if pupil is not None and family is not None:
                return None, Identified(family, pupil)
            if cook is not None and is_cook:
                return None, IdentifiedCook(cook)
            wrong = WrongAnswer(code_digest, caller_digest, at)
            until = locked_until((*attempts.for_code, at))
            if until is not None and at < until:
                return wrong, Locked(until)
            return wrong, Wrong(_pause(attempts.codes_of_caller))

        return await self._store.transact_attempt(
            code_digest, caller_digest, decide, since=at - ATTEMPTS_KEPT, caller_since=at - SLOWING_WITHIN
        )


def pin_digest(hasher: PinHasher, guardian: GuardianId, pin: str) -> str:
    """How a guardian's PIN is kept: with the guardian's id, so that equal PINs do not look alike."""
    return hasher.digest(f"pin:{guardian}:{pin}")


def cook_pin_digest(hasher: PinHasher, cook: CookId, pin: str) -> str:
    """How a cook's PIN is kept; a guardian of the same id and PIN has another digest."""
    return hasher.digest(f"cook-pin:{cook}:{pin}")


def number_digest(hasher: PinHasher, number: str) -> str:
    """How a number (E.164) whose calls are recognised is kept."""
    return hasher.digest(f"number:{number}")


def _pause(codes_of_caller: int) -> timedelta:
    over = codes_of_caller - CODES_BEFORE_SLOWING
    return PAUSE * min(max(over, 0), PAUSES_MAX)
