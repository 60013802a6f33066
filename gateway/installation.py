"""What every command opens first: the configuration, the store, the key, the clock; closed again in order."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from core.ports import Clock
from gateway.asterisk import AsteriskSettings, kept_secret
from gateway.clock import MeasuredClock, OffsetClock, TownClock, usual_sources
from gateway.clock.sntp import NtpServer
from gateway.files.load import Configuration
from gateway.municipality import Municipality
from gateway.pin_key import KeyedHasher, check_pin_key, load_or_create_pin_key
from gateway.settings import Settings
from gateway.store.bulk import FILLING, shown_url
from gateway.store.engine import located, open_store
from gateway.store.sql import SqlStore
from gateway.telephone import TownDesks, open_desks

HOUSE = Path(__file__).resolve().parent.parent
PIN_KEY_FILE = "pin.key"
# What a database is for is said once, when it is made; only a rehearsal's clock may be moved.
PURPOSE, SERVICE, REHEARSAL = "purpose", "service", "rehearsal"
OFFSET_US = "rehearsal_offset_us"
LAST_INSTANT = "rehearsal_last_instant"


class InstallationError(Exception):
    """The installation cannot be opened; a mistake a line."""


class NotARehearsalError(InstallationError):
    """Somebody wanted to move the clock of a database that real families rely on."""


@dataclass(frozen=True, slots=True)
class Installation:
    """One configuration folder with the store, the key and the clock that belong to it.

    `offset` is how far a rehearsal's clock is from the real one; zero for every other database.
    """

    configuration: Configuration
    store: SqlStore
    hasher: KeyedHasher
    clock: MeasuredClock
    offset: timedelta

    @property
    def settings(self) -> Settings:
        return self.configuration.settings

    def clock_of(self, town: Municipality) -> Clock:
        """The clock by the town's own limit of doubt (R10)."""
        real = TownClock(self.clock, town.clock_bound_max)
        return OffsetClock(real, self.offset) if self.offset else real

    def now(self) -> datetime:
        """The instant for logs, rehearsal included; rules are judged by readings instead."""
        return datetime.now(UTC) + self.offset

    def desks_of(self, town: Municipality) -> TownDesks:
        return open_desks(lambda: town, self.store, self.hasher)


def home(folder: Path) -> Path:
    """The folder beside the configuration that relative paths in gateway.yaml start from."""
    return folder.resolve().parent


def database_url(configuration: Configuration) -> str:
    """The database's address, a relative SQLite path made absolute."""
    return located(configuration.settings.database.url, home(configuration.folder))


def has_database(configuration: Configuration) -> bool:
    """Whether the database is there; one that is no file is there until opening it says otherwise."""
    url = database_url(configuration)
    return not url.startswith("sqlite:///") or Path(url.removeprefix("sqlite:///")).exists()


def secrets_folder(configuration: Configuration) -> Path:
    return home(configuration.folder) / configuration.settings.secrets


def sounds_folder(settings: Settings) -> Path:
    """Where Asterisk finds the clips, those made on this machine included."""
    return settings.sounds or HOUSE / "var" / "sounds"


def asterisk_settings(configuration: Configuration) -> AsteriskSettings:
    """What the settings say to an Asterisk of this installation, which rehearses until it is given a trunk.

    The secret of the event link is made where there is none. Raises ValueError for what Asterisk could not read, OSError.
    """
    settings = configuration.settings
    agi, sip = settings.agi, settings.sip
    return AsteriskSettings(
        numbers=tuple(number for town in configuration.municipalities for number in town.numbers),
        sounds=sounds_folder(settings),
        ami_secret=kept_secret(secrets_folder(configuration) / settings.ami.secret_file),
        ami_user=settings.ami.user,
        ami_port=settings.ami.port,
        sip_address=sip.host,
        sip_port=sip.port,
        websocket_port=sip.websocket_port,
        gateways=(f"{agi.host}:{agi.port}", f"{agi.host}:{agi.port + 1}"),
        rtp_first=sip.rtp_first,
        rtp_last=sip.rtp_last,
        calls_max=sip.calls_max,
    )


@asynccontextmanager
async def open_installation(
    configuration: Configuration, *, purpose: str = SERVICE, makes_database: bool = False
) -> AsyncIterator[Installation]:
    """Open all of it, with the tables brought up to date; `purpose` counts only for a database that is new.

    Raises `InstallationError`, `StoreSetupError` or `PinKeyError`.
    """
    if not makes_database and not has_database(configuration):
        raise InstallationError(
            f"{database_url(configuration)}: there is no database yet; start `mensa serve` or `make run`, or import people first"
        )
    clock = real_clock(configuration)
    folder = secrets_folder(configuration)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InstallationError(
            f"{folder}: the folder of secrets cannot be made ({error.strerror}); "
            "expected a folder of this user; nothing was opened"
        ) from error
    hasher = load_or_create_pin_key(folder / PIN_KEY_FILE)
    store = await open_store(database_url(configuration))
    try:
        await store.migrate()
        await check_pin_key(store, hasher)
        await store.claim_setting(PURPOSE, purpose)
        if await store.get_setting(FILLING) is not None:
            raise InstallationError(
                f"{shown_url(database_url(configuration))}: the database is not whole: `mensa db copy` or `mensa generate` has "
                "not finished; run it again, it goes on where it ended; nothing was opened"
            )
        yield Installation(configuration, store, hasher, clock, await rehearsal_offset(store))
    finally:
        await store.close()


def real_clock(configuration: Configuration) -> MeasuredClock:
    """The measured clock, not yet asked. Raises `InstallationError` for a server that is none."""
    settings = configuration.settings.clock
    try:
        servers = [NtpServer.parse(server) for server in settings.servers]
    except ValueError as error:
        raise InstallationError(f"{configuration.folder / 'gateway.yaml'}: clock.servers: {error}") from error
    return MeasuredClock(usual_sources(servers, settings.chronyc_options))


async def move_clock(store: SqlStore, offset: timedelta) -> None:
    """Let every command on this database see the time moved by `offset`. Raises `NotARehearsalError`."""
    purpose = await store.get_setting(PURPOSE)
    if purpose != REHEARSAL:
        raise NotARehearsalError(
            f"clock: this database is for {purpose or SERVICE}, and only a rehearsal's clock is moved; nothing was changed"
        )
    await store.set_setting(OFFSET_US, str(offset // timedelta(microseconds=1)))


async def rehearsal_offset(store: SqlStore) -> timedelta:
    """How far this database's clock is from the real one: zero unless it is a rehearsal's."""
    if await store.get_setting(PURPOSE) != REHEARSAL:
        return timedelta(0)
    return timedelta(microseconds=int(await store.get_setting(OFFSET_US) or 0))
