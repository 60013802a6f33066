"""The gateways on one database: each says now and then how it is, and a day closes only after all of them have settled (R25)."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from core.clock import Reading
from core.desk import Undecided
from gateway.store.port import Node, Store

# How often a gateway says how it is. Each time is a synced write: on the SD card of a village's small computer this is some
# 35 MB a day, which it stands for decades, and a gateway that died is still noticed within half a minute.
BEAT_S = 10.0
# Silent for three beats, a gateway counts as dead: what a cutoff waits at most for one that was killed just before it.
GONE = timedelta(seconds=30)
# A dead gateway stands in /health for as long as an operator may need to see it; one that was replaced is then forgotten.
FORGOTTEN = timedelta(hours=1)
# An edit on a shared folder reaches the others within a minute and a half (NFS keeps what it knows of a file for up to one, and
# thousands of towns are looked at in half a one), and is told with the next beat.
EDIT_SPREADS = timedelta(minutes=2)
# How long the closings of a cutoff wait for a gateway that beats and still has something undecided. A clock may be a minute in
# doubt and a request takes up to half a minute of the store's time-outs and as much of Asterisk's: what lasts longer is a
# fault, and no kitchen goes without its order for that.
WAIT_MOST_S = 180.0
# Between two looks at the others: they wake at the same instant, and answer within milliseconds unless a caller is in between.
LOOK_FIRST_S, LOOK_MOST_S = 0.05, 1.0
# As much of a hash as is shown: different ones differ in it.
HASH_SHOWN = 12


class Log(Protocol):
    """Where events go; a structlog logger fits."""

    def info(self, event: str, /, **fields: object) -> object: ...
    def warning(self, event: str, /, **fields: object) -> object: ...


class Nodes:
    """This gateway among those on its database.

    `reading` is the most doubtful of the towns' clocks, so that no request still to come is decided before what is said to be
    settled. `configuration` gives the hash of the towns' files in force, and how many towns there are; a command that only
    waits for the others has none.
    """

    def __init__(
        self,
        name: str,
        store: Store,
        undecided: Undecided,
        reading: Callable[[], Reading],
        configuration: Callable[[], tuple[str, int]],
        log: Log,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.name = name
        self._store = store
        self._undecided = undecided
        self._reading = reading
        self._configuration = configuration
        self._log = log
        self._sleep = sleep
        # Two beats at once could leave the older one standing.
        self._beating = asyncio.Lock()
        self._known: tuple[Node, ...] = ()
        self._differ_since: datetime | None = None
        self._is_failing = False
        self._has_left = False

    async def run(self) -> None:
        """Beat until cancelled, whatever the store says to it."""
        while True:
            try:
                await self.beat()
                await self._forget()
            except Exception as fault:
                # Once for as long as it lasts: /health tells the rest.
                if not self._is_failing:
                    self._log.warning("node_not_told", node=self.name, fault=f"{type(fault).__name__}: {fault}")
                self._is_failing = True
            else:
                self._is_failing = False
            await self._sleep(BEAT_S)

    async def beat(self) -> tuple[Node, ...]:
        """Say how this gateway is, and what is settled on it; those seen lately, this one included. Raises `StoreError`."""
        async with self._beating:
            if self._has_left:
                return self._seen_lately(self._reading().midpoint)
            # The instant first: whoever lets go of a request after this has given it to the store.
            settled = self._undecided.settled_until(self._reading())
            await self._store.settle()
            now = self._reading().midpoint
            configuration, towns = self._configuration()
            self._known = await self._store.beat(Node(self.name, now, settled, configuration, towns))
        lately = self._seen_lately(now)
        if len({node.configuration for node in lately if node.configuration}) > 1:
            self._differ_since = self._differ_since or now
        else:
            self._differ_since = None
        return lately

    async def settle_through(self, instant: datetime, is_given_up: Callable[[], bool] = lambda: False) -> bool:
        """Wait until on no gateway a request decided up to `instant` (UTC) is undecided; False when given up meanwhile.

        A gateway that says nothing is not waited for beyond GONE, one that never settles not beyond WAIT_MOST_S.
        Raises `StoreError`.
        """
        pause_s, waited_s = LOOK_FIRST_S, 0.0
        while behind := [node.node for node in await self.beat() if node.settled <= instant]:
            if is_given_up():
                return False
            if waited_s >= WAIT_MOST_S:
                self._log.warning("closing_without", nodes=behind, instant=instant.isoformat(), waited_s=waited_s)
                break
            await self._sleep(pause_s)
            waited_s += pause_s
            pause_s = min(LOOK_MOST_S, 2 * pause_s)
        return True

    async def leave(self) -> None:
        """Say that this gateway goes and has settled everything, so that no cutoff waits for it. Raises `StoreError`."""
        async with self._beating:
            self._has_left = True
            await self._store.settle()
            await self._store.leave(self.name)

    @property
    def lately(self) -> Sequence[str]:
        """The names of those that were seen lately, in their order."""
        return [node.node for node in self._seen_lately(self._reading().midpoint)]

    def health(self) -> Mapping[str, str | None]:
        """Each gateway with what is wrong with it, and `configuration` where they go by different files for too long."""
        now = self._reading().midpoint
        parts: dict[str, str | None] = {}
        for node in self._known:
            silent = now - node.seen
            parts[f"node:{node.node}"] = (
                f"not seen for {silent // timedelta(seconds=1)} s; days are closed without it"
                if abs(silent) > GONE
                else None
            )
        if self._differ_since is not None:
            runs = ", ".join(
                f"{node.configuration[:HASH_SHOWN]} on {node.node}"
                for node in self._seen_lately(now)
                if node.configuration
            )
            lasts = now - self._differ_since
            parts["configuration"] = (
                f"the gateways go by different files for {lasts // timedelta(seconds=1)} s: {runs}; "
                "expected one folder that all of them see; each answers by its own"
                if lasts > EDIT_SPREADS
                else None
            )
        return parts

    def shown(self) -> Sequence[Mapping[str, str | int | bool]]:
        """The gateways as /health shows them: the hash of the files each runs, and how many seconds ago it was seen."""
        now = self._reading().midpoint
        return [
            {
                "node": node.node,
                "this": node.node == self.name,
                "configuration": node.configuration[:HASH_SHOWN],
                "towns": node.towns,
                "seen_s": (now - node.seen) // timedelta(seconds=1),
            }
            for node in self._known
        ]

    def _seen_lately(self, now: datetime) -> tuple[Node, ...]:
        # One that is seen in the future has a clock that nobody can wait for.
        return tuple(node for node in self._known if node.node == self.name or abs(now - node.seen) <= GONE)

    async def _forget(self) -> None:
        now = self._reading().midpoint
        for node in self._known:
            if now - node.seen > FORGOTTEN and node.node != self.name:
                await self._store.leave(node.node)
                self._log.info("node_forgotten", node=node.node, seen=node.seen.isoformat())
