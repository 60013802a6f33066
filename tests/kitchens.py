"""A town in memory whose days can be closed and whose calendar can be edited between two requests."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import count

from core.access import Actor
from core.calendar import ServiceCalendar
from core.changes import Presence
from core.clock import Reading, exactly
from core.desk import Action, BookingDesk, Request, Town, View
from core.headcount import Closing
from core.kitchen import KitchenDesk, closings_of
from core.outcomes import Outcome
from core.people import Diet, NewPupil, People, Pupil, UserCode
from core.window import Channel
from gateway.store.memory import MemoryStore, MemoryTown
from ivr.explore import drive
from tests.store_people import HASHER, no_pin
from tests.towns import ANNA, BRUNO, CARLA, DARIO, at, town

KEY = "roccachiara"
# Just past a cutoff: nobody is in time any more.
A_MOMENT = timedelta(microseconds=1)


def enrolled_as(
    code: str, class_group: str, diet: Diet | None = None, *, school: str = "primaria", name: str = "Anna"
) -> NewPupil:
    return NewPupil(UserCode(code), name, "Verdini", None, school, class_group, diet, ())


FAMILIES = tuple(
    enrolled_as(each.user_code, each.class_group, school=each.school, name=each.name)
    for each in (ANNA, BRUNO, CARLA, DARIO)
)


@dataclass(slots=True)
class TownWithKitchen:
    """`rules` may be changed between requests, as an edit of the calendar does."""

    rules: Town = field(default_factory=town)
    people: Sequence[NewPupil] = FAMILIES
    store: MemoryStore = field(default_factory=MemoryStore)
    here: MemoryTown = field(init=False)
    booking: BookingDesk = field(init=False)
    kitchen: KitchenDesk = field(init=False)
    numbers: "count[int]" = field(default_factory=lambda: count(1))

    def __post_init__(self) -> None:
        self.here = self.store.at(KEY)
        self.booking = BookingDesk(lambda: self.rules, self.here)
        self.kitchen = KitchenDesk(KEY, lambda: self.rules, self.here)
        self.enrol(*self.people)

    def enrol(self, *pupils: NewPupil) -> None:
        drive(self.here.import_people(People((), tuple(pupils)), HASHER, no_pin))

    def edit(self, calendar: ServiceCalendar) -> None:
        self.rules = town(calendar)

    def pupil(self, pupil: Pupil = ANNA) -> Pupil:
        """The pupil as the store knows it."""
        found = drive(self.here.pupil(pupil.user_code))
        assert found is not None
        return found

    def ask(self, action: Action, when: str | Reading, pupil: Pupil = ANNA, by: Channel = Channel.PORTAL) -> Outcome:
        """What `act` answers, which is what `preview` said just before."""
        reading, who = at(when) if isinstance(when, str) else when, self.pupil(pupil)
        actor = Actor(by, "session", None, frozenset({who.id}))
        request = Request(who, action, f"request-{next(self.numbers)}")
        [previewed] = drive(self.booking.preview(actor, [request], reading))
        [outcome] = drive(self.booking.act(actor, [request], reading))
        assert previewed.word == outcome.word
        return outcome

    def view(self, when: str | Reading, pupil: Pupil = ANNA, by: Channel = Channel.PORTAL) -> View:
        reading = at(when) if isinstance(when, str) else when
        [view] = drive(self.booking.views(by, [self.pupil(pupil)], reading))
        return view

    def presence(self, day: date, pupil: Pupil = ANNA) -> Presence:
        [found] = drive(self.booking.presences(self.pupil(pupil), day, day))
        return found.presence

    def close(self, day: date, *schools: str) -> tuple[Closing, ...]:
        """Close a day just past each of its cutoffs; of all schools unless some are named."""
        made: list[Closing] = []
        for due in closings_of(self.rules.calendar, day):
            if not schools or set(due.schools) & set(schools):
                made += drive(self.kitchen.close(due, exactly(due.cutoff + A_MOMENT)))
        return tuple(made)
