"""What a command owes to the kitchens before it changes who is on a roll: the days whose cutoff has passed are closed (R25)."""

import os
import socket
from datetime import datetime, timedelta

from core.desk import Undecided
from core.headcount import Closing
from core.kitchen import DAYS_BACK_MAX, due_closings
from core.ports import Clock
from gateway.nodes import Log, Nodes
from gateway.store.port import Store
from gateway.telephone import TownDesks


async def close_what_is_due(store: Store, desks: TownDesks, clock: Clock, log: Log) -> tuple[Closing, ...]:
    """Close the days of one town that are due, as the ticker of a gateway would; what was closed, oldest first.

    A town of which nothing was known yet has its days closed from now on. Gateways that run are waited for, so that what was
    decided in time counts. Raises `StoreError`; what was closed before stays so.
    """
    municipality = desks.municipality()
    calendar, at = municipality.town.calendar, clock.read()
    since = await store.closings_since([municipality.key], at.midpoint)
    first = calendar.local(at.earliest).date() - timedelta(days=DAYS_BACK_MAX)
    closed = await desks.store.closed_days(dict.fromkeys(calendar.schools, first))
    through = {school: max(days) for school, days in closed.days.items() if days}
    due = due_closings(calendar, since[municipality.key], through, at)
    if not due:
        return ()
    await _settle(store, clock, due[-1].cutoff, log)
    return tuple([closing for each in due for closing in await desks.kitchen.close(each, at)])


async def _settle(store: Store, clock: Clock, cutoff: datetime, log: Log) -> None:
    """Wait until no gateway has a request undecided that was decided by the cutoff."""
    # Among the gateways for as long as it waits; the process tells two commands apart.
    name = f"command {socket.gethostname()}:{os.getpid()}"
    nodes = Nodes(name, store, Undecided(), clock.read, lambda: ("", 0), log)
    try:
        await nodes.settle_through(cutoff)
    finally:
        await nodes.leave()
