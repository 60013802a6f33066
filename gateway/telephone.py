"""How one municipality answers the telephone: its desks over its own part of the store, and what its line says of it."""

from collections.abc import Callable
from dataclasses import dataclass
from uuid import uuid4

from core.access import AccessDesk
from core.desk import BookingDesk, Undecided
from core.kitchen import KitchenDesk
from core.people import Pupil, UserCode
from core.ports import Clock, PinHasher
from gateway.municipality import Municipality
from gateway.store.port import Store, Town
from ivr.flow import Desks, Greeting, Office


@dataclass(frozen=True, slots=True)
class TownDesks:
    """One municipality's desks; `municipality` gives the value in force, so that an edit reaches calls under way."""

    municipality: Callable[[], Municipality]
    store: Town
    booking: BookingDesk
    access: AccessDesk
    kitchen: KitchenDesk

    def for_calls(self, clock: Clock) -> Desks:
        return Desks(self.booking, self.access, self.kitchen, clock, lambda: uuid4().hex)

    async def pupil(self, code: str) -> Pupil | None:
        return await self.store.pupil(UserCode(code))


def open_desks(
    municipality: Callable[[], Municipality], store: Store, hasher: PinHasher, undecided: Undecided | None = None
) -> TownDesks:
    """The desks of one municipality, on that municipality's part of the store and no other.

    A gateway hands all its towns the one `undecided` that its closings wait for (R25).
    """
    key = municipality().key
    town_store = store.at(key)
    return TownDesks(
        municipality,
        town_store,
        BookingDesk(lambda: municipality().town, town_store, undecided),
        AccessDesk(town_store, hasher),
        KitchenDesk(key, lambda: municipality().town, town_store),
    )


def greeting_of(municipality: Municipality) -> Greeting:
    """What the line says of the town; an office without number or hours is not spoken of."""
    office = municipality.office
    return Greeting(
        town=municipality.key,
        town_name=municipality.name,
        languages=municipality.languages,
        user_code_digits=municipality.user_code_digits,
        pin_digits=municipality.pin_digits,
        office=Office(office.phone, office.hours) if office and office.phone and office.hours else None,
    )
