"""The product as its callers meet it: its real clips, what was heard told in prompts, and many callers at once.

`Voice` knows the clips that a prompt is spoken with, so that a test says what was heard in the words of the call:

    await voice.assert_heard(caller, "welcome", state("Anna", MONDAY, Presence.PRESENT), "offer-cancel")
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from caller import Caller, KeysBy, free_udp_port
from heard import Samples, from_alaw
from town import EVENING, HOUSE, MONDAY, TOWN, Gateway, TownOnDisk, open_town

from core.changes import Change, Kind, Presence
from gateway.asterisk import RunningAsterisk
from gateway.audio import write_clip
from gateway.files.phrases import phrases_folder, read_catalogues
from ivr.line import (
    FirstName,
    FirstNames,
    Phrase,
    Prompt,
    SpokenDay,
    SpokenDigits,
    SpokenPhone,
    SpokenTime,
    SpokenWords,
    TownName,
    prompt,
)
from ivr.prompts import Catalogue
from ivr.spoken import clips
from sounds.derive import derive

ROME = ZoneInfo("Europe/Rome")
TOWN_NAME = "Comune di Roccachiara"
OFFICE_PHONE = "+390350000199"
OFFICE_HOURS = "lun-ven 9-12"
# What the example town says with the same words each time.
FIXED = {
    "welcome": prompt("welcome", town=TownName(TOWN_NAME)),
    "offer-office": prompt("offer-office", phone=SpokenPhone(OFFICE_PHONE), hours=SpokenWords(OFFICE_HOURS)),
}
TOWN_CLIPS = HOUSE / "config" / "municipalities" / TOWN / "sounds"
CROWD = Path(__file__).parent / "sipp" / "crowd.xml"
# Forty calls of ten seconds on a machine that others use too; beyond this SIPp hangs.
CROWD_S = 120

Answer = TypeVar("Answer")
Scene = Callable[[Any], Awaitable[Any]]
SceneType = TypeVar("SceneType", bound=Scene)
Dial = Callable[..., Caller]
StartAsterisk = Callable[..., Awaitable[RunningAsterisk]]
PutUp = Callable[..., AbstractAsyncContextManager["Line"]]
# A prompt, the id of one without slots, or the name of a clip such as `digits/47`.
Said = Prompt | str


def real_sounds(folder: Path) -> Path:
    """The product's clips as Asterisk wants them, those of the example town included."""
    folder.chmod(0o755)
    derive(phrases_folder(), folder)
    for file in sorted(TOWN_CLIPS.rglob("*.alaw")):
        write_clip(folder / file.relative_to(TOWN_CLIPS).with_suffix(""), file.read_bytes())
    return folder


async def aside(question: Coroutine[Any, Any, Answer]) -> Answer:
    """What `question` answers, asked on another thread's loop, so that the sound of running calls is not held up."""
    return await asyncio.to_thread(asyncio.run, question)


def state(name: str, day: date, presence: Presence) -> Prompt:
    """The head of the menu."""
    return prompt("state", name=FirstName(name), day=SpokenDay(day), presence=Phrase(f"presence-{presence.value}"))


def confirm_cancel(day: date, *names: str) -> Prompt:
    """What is about to be done."""
    return prompt("confirm-cancel", names=FirstNames(names), day=SpokenDay(day))


def receipt_of(change: Change, id: str = "cancelled") -> Prompt:  # noqa: A002 - a phrase's id
    """How a stored change is told: when it was decided, and its receipt."""
    at = change.decided.midpoint.astimezone(ROME).time()
    return prompt(id, time=SpokenTime(at), receipt=SpokenDigits(change.receipt))


@dataclass(frozen=True, slots=True)
class Voice:
    """The clips below `folder`, found by what they say."""

    folder: Path
    catalogues: Mapping[str, Catalogue]
    _loaded: dict[str, Samples] = field(default_factory=dict)

    def clip(self, name: str, language: str = "it") -> Samples:
        """The sound of a clip; of a prompt without slots by its id."""
        key = f"{language}/{name if '/' in name else f'phrase/{name}'}"
        if key not in self._loaded:
            self._loaded[key] = from_alaw((self.folder / f"{key}.alaw").read_bytes())
        return self._loaded[key]

    def names(self, said: Said, language: str = "it") -> Sequence[str]:
        """The clips that say it, in order."""
        if isinstance(said, str) and "/" in said:
            return (said,)
        return clips(FIXED.get(said, Prompt(said)) if isinstance(said, str) else said, self.catalogues[language])

    async def wait_for(self, caller: Caller, said: Said, timeout_s: float = 30.0, language: str = "it") -> None:
        """Return when the last clip of `said` was heard; AssertionError after `timeout_s`."""
        name = self.names(said, language)[-1]
        try:
            await caller.wait_until_heard(self.clip(name, language), timeout_s=timeout_s)
        except AssertionError:
            heard = caller.heard({each: self.clip(each) for each in self._phrases()})
            raise AssertionError(f"{name} was not heard within {timeout_s} s, but {heard}") from None

    async def assert_heard(self, caller: Caller, *said: Said, never: Sequence[Said] = (), language: str = "it") -> None:
        """All of `said` was heard, each to its end, in this order; others may lie between, but nothing of `never`."""
        expected = [name for each in said for name in self.names(each, language)]
        unwanted = [name for each in never for name in self.names(each, language)]
        wanted = {name: self.clip(name, language) for name in (*expected, *unwanted)}
        # In a thread, so that calls that go on meanwhile are not held up.
        heard = await asyncio.to_thread(caller.heard, wanted)
        rest = iter(heard)
        assert all(name in rest for name in expected), f"expected {expected}, heard {heard}"
        assert not set(unwanted) & set(heard), f"{unwanted} was heard: {heard}"

    def _phrases(self) -> Iterator[str]:
        return (f"phrase/{file.stem}" for file in sorted((self.folder / "it" / "phrase").glob("*.alaw")))


def open_voice(folder: Path) -> Voice:
    return Voice(folder, read_catalogues(phrases_folder()))


@dataclass(frozen=True, slots=True)
class Someone:
    """An invented pupil of the crowd, the number that calls for it, and its guardian's PIN; all of them are called Anna."""

    code: str
    number: str
    pin: str


# All of one class that eats every day. No port has such a number, so that a code found in a file was keyed.
PEOPLE = tuple(Someone(str(70_001 + each), f"+39035000{1_001 + each}", str(8_201 + each)) for each in range(70))
PEOPLE_ROWS = tuple(
    f"{each.code},Anna,Verdi,,primaria,1A,,,,Maria,Verdi,,{each.number},yes,it,{each.pin}" for each in PEOPLE
)


def stranger(number: int) -> str:
    """A number that is nobody's: such a caller keys a code, and the call is found in the log by it."""
    return f"+3903500090{number:02}"


@dataclass(frozen=True, slots=True)
class Line:
    """The whole product, up: a town with its gateways and its Asterisk, and somebody to call it."""

    town: TownOnDisk
    gateways: list[Gateway]
    pbx: RunningAsterisk
    voice: Voice
    dial: Dial

    def call(self, number: str, keys_by: KeysBy = "rfc4733") -> Caller:
        return self.dial(self.pbx, from_=number, keys_by=keys_by)

    async def changes(self, code: str) -> Sequence[Change]:
        return list(await aside(self.town.changes(code)))

    async def cancelled(self, code: str, day: date = MONDAY) -> Change:
        """The one change of this pupil, which cancelled that day."""
        [change] = await self.changes(code)
        assert (change.kind, change.first, change.last) == (Kind.CANCEL, day, day)
        assert await aside(self.town.presence(code, day)) is Presence.CANCELLED
        return change

    async def unchanged(self, code: str) -> None:
        assert await self.changes(code) == []
        assert await aside(self.town.presence(code, MONDAY)) is Presence.PRESENT


async def no_channel_left(pbx: RunningAsterisk, timeout_s: float = 15.0) -> None:
    """Return when Asterisk holds no channel any more; AssertionError after `timeout_s`."""
    for _ in range(int(timeout_s / 0.1)):
        if (said := await pbx.command("core show channels count")).startswith("0 active channels"):
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"a channel was left behind: {said}")


@asynccontextmanager
async def put_up_line(
    folder: Path,
    asterisk: StartAsterisk,
    voice: Voice,
    dial: Dial,
    *,
    at: str = EVENING,
    gateways: Sequence[int] = (0,),
) -> AsyncIterator[Line]:
    """The example town with many families more, its clock at `at`; `gateways` are those of the two that are up."""
    people = (HOUSE / "config" / "municipalities" / TOWN / "people.csv").read_text(encoding="utf-8")
    everybody = "\n".join([people.rstrip(), *PEOPLE_ROWS]) + "\n"
    async with open_town(folder, voice.folder, at, people=everybody) as town:
        pbx = await asterisk(town.agi_ports, **town.asterisk())
        up = [await town.serve(number) for number in gateways]
        for gateway in up:
            await gateway.hears_asterisk()
        yield Line(town, up, pbx, voice, dial)
        await no_channel_left(pbx)


class Together:
    """Calls of one file that take long and do not touch each other's pupils: all go on at once, each test asks for its own."""

    def __init__(self) -> None:
        self._scenes: list[Scene] = []

    def at_once(self, scene: SceneType) -> SceneType:
        """Marks a coroutine function as one of them."""
        self._scenes.append(scene)
        return scene

    @asynccontextmanager
    async def going_on(self, place: Any) -> "AsyncIterator[Outcomes]":
        """All of them, each called with `place`."""
        outcomes = Outcomes({scene: asyncio.ensure_future(scene(place)) for scene in self._scenes})
        try:
            yield outcomes
        finally:
            await outcomes.cancel()


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What came of calls that go on at once: `await outcomes(scene)`."""

    _going_on: Mapping[Scene, "asyncio.Future[Any]"]

    async def __call__(self, scene: Callable[[Any], Awaitable[Answer]]) -> Answer:
        answer: Answer = await asyncio.shield(self._going_on[scene])
        return answer

    async def all(self) -> None:
        """Return when all have ended, well or not."""
        await asyncio.wait(self._going_on.values())

    async def cancel(self) -> None:
        for each in self._going_on.values():
            each.cancel()
        await asyncio.gather(*self._going_on.values(), return_exceptions=True)


async def crowd_calls(
    pbx: RunningAsterisk, folder: Path, callers: Sequence[Someone], *, keys: str = "1 1", to: str = "800000100"
) -> None:
    """All of `callers` call at once, each presses two keys, stays a while and hangs up; each call has to go well."""
    numbers, errors = folder / "numbers.csv", folder / "crowd.err"
    numbers.write_text("\n".join(["SEQUENTIAL", *(each.number for each in callers)]) + "\n")
    first, second = keys.split()
    process = await asyncio.create_subprocess_exec(
        *("sipp", "-sf", str(CROWD), f"127.0.0.1:{pbx.settings.sip_port}", "-s", to, "-inf", str(numbers)),
        *("-i", "127.0.0.1", "-p", str(free_udp_port()), "-mp", str(free_udp_port(even=True)), "-nostdin"),
        *("-m", str(len(callers)), "-l", str(len(callers)), "-r", "20", "-timeout", str(CROWD_S), "-timeout_error"),
        *("-key", "first", first, "-key", "second", second, "-trace_err", "-error_file", str(errors)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        cwd=folder,
    )
    try:
        status = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
    assert status == 0, f"not every call went well: {errors.read_text()[-2000:] if errors.exists() else status}"
