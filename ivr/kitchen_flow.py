"""The kitchen's number: what a cook hears, who was identified by code and PIN on the parents' line.

Counts and nothing else: nothing is changed here, and no pupil is named.
"""

from collections.abc import Callable, Sequence
from datetime import date, datetime, time

from core.calendar import ONE_DAY, opening_instant
from core.changes import Presence
from core.clock import Reading
from core.desk import Town
from core.headcount import Closing, Headcount
from core.kitchen import KitchenDesk
from core.people import School
from core.ports import Clock, Cook
from core.window import Channel, Evening
from ivr.line import (
    Journal,
    Line,
    Prompt,
    SchoolName,
    SpokenCode,
    SpokenDay,
    SpokenNumber,
    SpokenSince,
    SpokenTime,
    prompt,
)
from ivr.questions import ROUNDS_MAX, TRIES_MAX, GaveUpError, Questions
from ivr.spoken import can_be_spelled


class KitchenCall:
    """The rest of a call, once its caller is known to be a cook."""

    def __init__(
        self,
        line: Line,
        journal: Journal,
        questions: Questions,
        languages: Sequence[str],
        kitchen: KitchenDesk,
        town: Callable[[], Town],
        clock: Clock,
        cook: Cook,
    ) -> None:
        self._line, self._journal, self._questions, self._languages = line, journal, questions, languages
        self._kitchen, self._town, self._clock, self._cook = kitchen, town, clock, cook

    async def guide(self) -> None:
        """Tell the counts of the day at hand, then of the days that are asked for; silence ends it like `#`."""
        day = await self._first_day()
        keys = [prompt("kitchen-keys")]
        if len(self._languages) > 1:
            keys.append(prompt("offer-language"))
        allowed = {"*", "6", "9", "#"} | ({"8"} if len(self._languages) > 1 else set())
        speaks_counts = True
        for _ in range(ROUNDS_MAX):
            if day is None:
                await self._line.say(prompt("no-more-days"))
                return
            counts = await self._counts_as_told(day) if speaks_counts else []
            try:
                # What was heard is repeated on `*`; after silence the keys alone say how.
                key = await self._questions.ask_key(
                    [*counts, *keys], allowed, shorter=[keys] * TRIES_MAX, notes_digits=False
                )
            except GaveUpError:
                return
            speaks_counts = True
            match key:
                case "6":
                    following = self._next_day(day + ONE_DAY)
                    if following is None:
                        await self._line.say(prompt("no-more-days"))
                        speaks_counts = False
                    day = following or day
                case "8":
                    at = self._languages.index(self._line.language) + 1
                    self._line.language = self._languages[at % len(self._languages)]
                    self._journal.note("language", language=self._line.language)
                case "9" | "#":
                    return
                case _:
                    pass

    # Which day

    async def _first_day(self) -> date | None:
        """Today until the evening opens, tomorrow from then on; the next that has service where that one has none."""
        town, at = self._town(), self._clock.read()
        first = town.calendar.local(at.earliest).date()
        window = town.windows[Channel.PHONE]
        if isinstance(window, Evening) and at.reaches(opening_instant(first, window.opens, town.calendar.timezone)):
            first += ONE_DAY
        following = self._next_day(first)
        # A closing stands whatever an edit has since made of its day (R24).
        return first if following != first and await self._counts(first) else following

    def _next_day(self, first: date) -> date | None:
        """The first day from `first` on on which any of the cook's schools has service."""
        return self._town().calendar.first_service_day((school.key for school in self._schools()), first)

    # What is counted

    def _schools(self) -> list[School]:
        """The cook's schools as the town has them now; all of them for a cook without any of one's own."""
        wanted = self._cook.schools
        return [school for key, school in self._town().calendar.schools.items() if not wanted or key in wanted]

    async def _counts(self, day: date) -> list[tuple[School, Headcount, Closing | None]]:
        """Each school that has service on `day`, or had when the day was closed."""
        found: list[tuple[School, Headcount, Closing | None]] = []
        for school in self._schools():
            headcount, closing = await self._kitchen.headcount(school.key, day)
            if closing is not None or headcount.class_groups:
                found.append((school, headcount, closing))
        return found

    async def _counts_as_told(self, day: date) -> list[Prompt]:
        told = [prompt("kitchen-day", day=SpokenDay(day))]
        for school, headcount, closing in await self._counts(day):
            told.append(prompt("kitchen-school", school=SchoolName(school.name)))
            told += meals_as_told(headcount)
            told.append(self._how_final(headcount, closing, self._clock.read()))
        return told

    def _how_final(self, headcount: Headcount, closing: Closing | None, at: Reading) -> Prompt:
        if closing is not None:
            return prompt("kitchen-final", since=SpokenSince(self._local(closing.cutoff)))
        cutoff = self._town().calendar.cutoff(headcount.school, headcount.day)
        if at.is_past(cutoff):
            return prompt("kitchen-soon-final")
        return prompt("kitchen-so-far", time=SpokenTime(self._local(cutoff)))

    def _local(self, instant: datetime) -> time:
        return self._town().calendar.local(instant).time()


def meals_as_told(headcount: Headcount) -> list[Prompt]:
    """All meals of a school, the bland ones among them, and those of each diet; codes that cannot be spelled together."""
    meals, bland = headcount.meals, headcount.meals_of(Presence.BLAND)
    if not meals:
        return [prompt("kitchen-no-meals")]
    told = [prompt("kitchen-meal") if meals == 1 else prompt("kitchen-meals", number=SpokenNumber(meals))]
    match bland:
        case 0:
            told.append(prompt("kitchen-no-bland"))
        case 1:
            told.append(prompt("kitchen-one-bland"))
        case _:
            told.append(prompt("kitchen-bland", number=SpokenNumber(bland)))
    unspelled = 0
    for code, number in headcount.meals_by_diet().items():
        if not can_be_spelled(code):
            unspelled += number
        elif number == 1:
            told.append(prompt("kitchen-one-diet", code=SpokenCode(code)))
        else:
            told.append(prompt("kitchen-diet", number=SpokenNumber(number), code=SpokenCode(code)))
    if unspelled == 1:
        told.append(prompt("kitchen-one-special-diet"))
    elif unspelled:
        told.append(prompt("kitchen-special-diet", number=SpokenNumber(unspelled)))
    return told
