"""When a rehearsal begins, and who of a town's people can call in it."""

from collections.abc import Iterator, Sequence
from datetime import datetime, time

from core.calendar import ONE_DAY, opening_instant
from core.people import NewPupil, People
from gateway.municipality import Municipality

# Half an hour after most lines open, when most families call.
STARTS_AT = time(18, 30)


def eve_of_service(towns: Sequence[Municipality], now: datetime) -> datetime:
    """18:30 on the evening before the next service day of the first town (UTC); its calendar's first when none is left."""
    town = towns[0]
    calendar = town.town.calendar
    tomorrow = calendar.local(now).date() + ONE_DAY
    first = min(calendar.service.first, *(calendar.school_year(school).first for school in calendar.schools))
    for day in (tomorrow, first):
        served = [each for group in calendar.classes.values() if (each := calendar.first_useful_day(group, day))]
        if served:
            return opening_instant(min(served) - ONE_DAY, STARTS_AT, calendar.timezone)
    return opening_instant(tomorrow - ONE_DAY, STARTS_AT, calendar.timezone)


def recognised(people: People) -> Iterator[tuple[str, list[NewPupil]]]:
    """Each number that tells its guardian, with the guardian's pupils."""
    phones = [guardian.phone for guardian in people.guardians]
    for index, guardian in enumerate(people.guardians):
        if guardian.phone and guardian.recognise and phones.count(guardian.phone) == 1:
            yield guardian.phone, [pupil for pupil in people.pupils if index in pupil.guardians]
