"""A real Asterisk and real callers for tests.

    async def test_…(asterisk, dial, clips) -> None:
        pbx = await asterisk(gateways=(port, other_port))              # an instance of its own, on free ports
        async with dial(pbx, to="800000100", from_="+390350000101") as caller:
            await caller.wait_until_heard(clips["phrase/welcome"])
            await caller.press("11")
            await caller.wait_until_over()
        assert caller.heard(clips) == ["phrase/welcome", …]

or, where nothing is decided on the way: `caller = await sipp_call(pbx, keys="1 1", from_="+390350000101")`.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from caller import Caller, KeysBy, free_udp_port
from heard import Samples, from_alaw, invented_clip, to_alaw
from product import Dial, Line, PutUp, StartAsterisk, Voice, no_channel_left, open_voice, put_up_line, real_sounds

from gateway.asterisk import AsteriskSettings, RunningAsterisk, asterisk_root

HERE = Path(__file__).parent
NUMBER = "800000100"
CALLER = "+390350000101"
# The clips that the dialplan itself plays, and a few for the tests' own AGI program.
TEST_CLIPS = (
    *(f"phrase/fallback-{what}" for what in ("nothing-changed", "perhaps", "saved", "saved-all")),
    *("phrase/welcome", "phrase/menu", "phrase/confirm", "phrase/done"),
    *("digits/47", "digits/12", "digits/3"),
)
# Python starts in a fraction of this, also on a busy machine.
PROGRAM_STARTS_S = 15.0


def free_tcp_port() -> int:
    """A TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def test_sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of clips as Asterisk wants it, each an invented sound of a second, in Italian and English."""
    folder = tmp_path_factory.mktemp("sounds")
    folder.chmod(0o755)
    for language in ("it", "en"):
        for name in TEST_CLIPS:
            path = folder / language / f"{name}.alaw"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(to_alaw(invented_clip(f"{language}/{name}")))
    return folder


@pytest.fixture(scope="session")
def clips(test_sounds: Path) -> dict[str, Samples]:
    """The clips of `test_sounds`, by `language/name`."""
    return {
        str(path.relative_to(test_sounds).with_suffix("")): from_alaw(path.read_bytes())
        for path in sorted(test_sounds.rglob("*.alaw"))
    }


@pytest.fixture(scope="session")
def line_sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the product's own clips as Asterisk wants them."""
    return real_sounds(tmp_path_factory.mktemp("line-sounds"))


@pytest.fixture(scope="session")
def voice(line_sounds: Path) -> Voice:
    """What the clips of `line_sounds` say."""
    return open_voice(line_sounds)


@pytest_asyncio.fixture
async def asterisk(tmp_path: Path, test_sounds: Path) -> AsyncIterator[StartAsterisk]:
    """Starts instances of Asterisk on free ports: `await asterisk(gateways=(agi_port, agi_port_2), **settings)`.

    `settings` are fields of AsteriskSettings. When the test is over each must have no channel left, and is put away.
    """
    async with _instances(tmp_path, test_sounds) as start:
        yield start


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lasting_asterisk(tmp_path_factory: pytest.TempPathFactory, line_sounds: Path) -> AsyncIterator[StartAsterisk]:
    """Like `asterisk`, with the product's own clips and for all the tests of a file."""
    async with _instances(tmp_path_factory.mktemp("asterisk"), line_sounds) as start:
        yield start


@contextlib.asynccontextmanager
async def _instances(folder: Path, sounds: Path) -> AsyncIterator[StartAsterisk]:
    root = await asterisk_root(get=True)
    running: list[RunningAsterisk] = []
    numbers = count()

    async def start(gateways: tuple[int, int], **settings: Any) -> RunningAsterisk:
        # Two ports a call; the range begins somewhere else for each instance.
        rtp_first = 20_000 + free_tcp_port() % 1_000 * 40
        wanted = AsteriskSettings(
            numbers=(NUMBER, "+390350000100"),
            sounds=sounds,
            ami_secret="test-only",
            sip_port=free_udp_port(),
            websocket_port=free_tcp_port(),
            ami_port=free_tcp_port(),
            gateways=(f"127.0.0.1:{gateways[0]}", f"127.0.0.1:{gateways[1]}"),
            rtp_first=rtp_first,
            rtp_last=rtp_first + 399,
        )
        instance = RunningAsterisk(replace(wanted, **settings), folder / f"asterisk-{next(numbers)}", root)
        await instance.start()
        running.append(instance)
        return instance

    try:
        yield start
        for instance in running:
            await no_channel_left(instance)
    finally:
        for instance in running:
            await instance.stop()


@pytest.fixture
def dial(tmp_path: Path) -> Dial:
    """Makes a caller whom the test steers: `async with dial(pbx, to=…, from_=…, keys_by=…) as caller`."""
    return _dialling(tmp_path / "sipp")


@pytest.fixture(scope="module")
def lasting_dial(tmp_path_factory: pytest.TempPathFactory) -> Dial:
    """Like `dial`, for calls that outlast a test."""
    return _dialling(tmp_path_factory.mktemp("callers") / "sipp")


def _dialling(folder: Path) -> Dial:
    folder.mkdir()

    def make(
        pbx: RunningAsterisk, *, to: str = NUMBER, from_: str | None = CALLER, keys_by: KeysBy = "rfc4733"
    ) -> Caller:
        return Caller(folder, pbx.settings.sip_port, to=to, from_=from_, keys_by=keys_by)

    return make


@pytest.fixture(scope="module")
def put_up(
    tmp_path_factory: pytest.TempPathFactory, lasting_asterisk: StartAsterisk, voice: Voice, lasting_dial: Dial
) -> PutUp:
    """Puts up the whole product: `async with put_up("a name", at=…, gateways=(0, 1)) as line`; see `put_up_line`."""

    def up(name: str, **how: Any) -> AbstractAsyncContextManager[Line]:
        return put_up_line(tmp_path_factory.mktemp(name), lasting_asterisk, voice, lasting_dial, **how)

    return up


SippCall = Callable[..., Awaitable[Caller]]


@pytest.fixture
def sipp_call(dial: Dial) -> SippCall:
    """Makes a whole call and returns the caller when it is over: `await sipp_call(pbx, keys="1 1", from_=…)`.

    `keys` as in rehearsal files: each word is pressed in one go, `pause_s` after the one before; `-` only waits, `x` hangs
    up there, `1x` in the moment of the key. After the last word the other side has `timeout_s` to hang up; then we do.
    """

    async def call(
        pbx: RunningAsterisk, *, keys: str = "", pause_s: float = 1.5, timeout_s: float = 30.0, on_ms: int = 100,
        off_ms: int = 100, **who: Any
    ) -> Caller:  # fmt: skip
        async with dial(pbx, **who) as caller:
            for word in keys.split():
                await asyncio.sleep(pause_s)
                await caller.press(word.strip("-x"), on_ms=on_ms, off_ms=0 if word.endswith("x") else off_ms)
                if word.endswith("x"):
                    await caller.hang_up()
                    return caller
            with contextlib.suppress(AssertionError):
                await caller.wait_until_over(timeout_s)
            return caller

    return call


@dataclass(slots=True)
class AgiProgram:
    """The tests' own FastAGI program, running: its port, and what it noted."""

    port: int
    process: asyncio.subprocess.Process
    notes_file: Path

    def notes(self, event: str | None = None) -> list[dict[str, Any]]:
        """What was noted, in order; of one kind when `event` is given."""
        if not self.notes_file.exists():
            return []
        notes = [json.loads(line) for line in self.notes_file.read_text(encoding="utf-8").splitlines()]
        return [note for note in notes if event in (None, note["event"])]

    @property
    def answers(self) -> list[str]:
        """`KEYS|READSTATUS` of each question."""
        return [note["answer"].strip("()") for note in self.notes("answer")]

    async def wait_for(self, event: str, times: int = 1, timeout_s: float = 20.0) -> None:
        """Return when `event` was noted that often; AssertionError after `timeout_s`."""
        for _ in range(int(timeout_s / 0.02)):
            if len(self.notes(event)) >= times:
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"{event!r} was not noted {times} times within {timeout_s} s: {self.notes()}")

    def send_signal(self, number: signal.Signals) -> None:
        """Such as SIGKILL or SIGSTOP."""
        os.kill(self.process.pid, number)


RunAgi = Callable[..., Awaitable[AgiProgram]]


@pytest_asyncio.fixture
async def agi_program(tmp_path: Path) -> AsyncIterator[RunAgi]:
    """Starts the tests' own FastAGI program: `await agi_program([step, …])`; the steps are those of agi_program.py."""
    running: list[AgiProgram] = []

    async def start(steps: Sequence[Any]) -> AgiProgram:
        notes = tmp_path / f"agi-{len(running)}.jsonl"
        port = free_tcp_port()
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(HERE / "agi_program.py"), str(port), str(notes), json.dumps(steps)
        )
        program = AgiProgram(port, process, notes)
        running.append(program)
        await program.wait_for("serving", timeout_s=PROGRAM_STARTS_S)
        return program

    yield start
    for program in running:
        if program.process.returncode is None:
            # SIGKILL ends also what SIGSTOP froze.
            program.process.kill()
        await program.process.wait()


Starter = Callable[[], Awaitable[tuple[Path, asyncio.subprocess.Process]]]

_STARTER = """
import asyncio, sys
from pathlib import Path
from gateway.asterisk import AsteriskSettings, RunningAsterisk, asterisk_root
sip, websocket, ami = map(int, sys.argv[3:6])
settings = AsteriskSettings(numbers=("800000100",), sounds=Path(sys.argv[2]), ami_secret="test-only", sip_port=sip,
    websocket_port=websocket, ami_port=ami, calls_max=9)
async def main():
    async with RunningAsterisk(settings, Path(sys.argv[1]), await asterisk_root()):
        print("up", flush=True)
        await asyncio.sleep(600)
asyncio.run(main())
"""


@pytest_asyncio.fixture
async def starter(tmp_path: Path, test_sounds: Path) -> AsyncIterator[Starter]:
    """Starts another process that starts an Asterisk; gives its run folder and the process, once Asterisk is up."""
    running: list[asyncio.subprocess.Process] = []

    async def start() -> tuple[Path, asyncio.subprocess.Process]:
        folder = tmp_path / "started"
        ports = (str(port) for port in (free_udp_port(), free_tcp_port(), free_tcp_port()))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _STARTER, str(folder), str(test_sounds), *ports),
            stdout=asyncio.subprocess.PIPE,
            cwd=HERE.parent.parent,
            start_new_session=True,
        )
        running.append(process)
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), 60) == b"up\n"
        return folder, process

    yield start
    for process in running:
        if process.returncode is None:
            process.kill()
        await process.wait()


Crowd = Callable[..., Awaitable[None]]


@pytest.fixture
def crowd(tmp_path: Path) -> Crowd:
    """Makes many calls at once by SIPp alone: `await crowd(pbx, calls=40, keys="1,1")` presses two keys in each call."""

    async def call(
        pbx: RunningAsterisk, *, calls: int, keys: str, per_second: int = 20, to: str = NUMBER, from_: str = CALLER
    ) -> None:
        first, second = keys.split(",")
        process = await asyncio.create_subprocess_exec(
            *("sipp", "-sf", str(HERE / "sipp" / "plain.xml"), f"127.0.0.1:{pbx.settings.sip_port}", "-s", to),
            *("-i", "127.0.0.1", "-p", str(free_udp_port()), "-mp", str(free_udp_port(even=True)), "-nostdin"),
            *("-m", str(calls), "-l", str(calls), "-r", str(per_second), "-timeout", "120", "-timeout_error"),
            *("-key", "from_number", from_, "-key", "first", first, "-key", "second", second),
            *("-trace_err", "-error_file", str(tmp_path / "crowd.err")),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            cwd=tmp_path,
        )
        try:
            status = await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
        errors = tmp_path / "crowd.err"
        assert status == 0, f"not every call went well: {errors.read_text()[-2000:] if errors.exists() else status}"

    return call
