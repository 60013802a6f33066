"""One call as Asterisk 22 holds it, seen from the FastAGI port: a stand-in that behaves like it, on a clock of its own.

It speaks through a real socket and waits for nothing but the gateway: clips, keys and time-outs pass on `clock_s`. What it
does follows `res/res_agi.c`, `apps/app_read.c` and `main/app.c`: keys pressed while no Read runs are lost, a key stops
the clip and starts the time between keys, a hang-up ends the connection with two HANGUP lines and answers nothing more.
"""

import asyncio
import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

# Asterisk's AGI_BUF_LEN and MAX_ARGS.
LINE_BYTES_MAX = 2047
# Between two clips of one Read Asterisk listens this long.
BETWEEN_CLIPS_S = 0.05
# How soon after a question began the scripted caller presses a key, and the next one.
KEY_S = 0.1
# A word `-` is a whole time-out; a Read that waits shorter than this for its first key is only the front part of a question.
PART_WAITS_LESS_THAN_S = 2
# A gateway that sends nothing for so long hangs. Real time, and never reached by one that works.
GATEWAY_S = 20
# A flow that sends more commands than this in one call is a loop.
COMMANDS_MAX = 3_000

HANG_UP = "x"


class Keypad(Protocol):
    """What the caller does with the phone."""

    def question(self, first_key_s: float) -> None:
        """A Read begins that waits so long for its first key."""

    def take(self, now_s: float, until_s: float) -> tuple[float, str] | None:
        """The next key from now until then, with its instant; what was pressed earlier is lost."""

    def leaves(self, now_s: float) -> bool:
        """Whether the caller hangs up in the very moment of the last key."""


class Words:
    """The keys of a rehearsal file: each word answers one question; `-` is silence, `x` hangs up there.

    `1x` hangs up in the moment of the key; keys that are too many for a question are typed ahead.
    """

    def __init__(self, words: Iterable[str]) -> None:
        self._words = list(words)
        self._pending = ""

    def question(self, first_key_s: float) -> None:
        if self._pending or not self._words:
            return
        if self._words[0] == "-":
            if first_key_s >= PART_WAITS_LESS_THAN_S:
                self._words.pop(0)
            return
        self._pending = self._words.pop(0)

    def take(self, now_s: float, until_s: float) -> tuple[float, str] | None:
        if not self._pending or now_s + KEY_S > until_s:
            return None
        key, self._pending = self._pending[0], self._pending[1:]
        return now_s + KEY_S, key

    def leaves(self, now_s: float) -> bool:
        return self._pending == HANG_UP


class Pressed:
    """Keys at instants of the call: `(seconds, key)`, in order."""

    def __init__(self, keys: Iterable[tuple[float, str]]) -> None:
        self._keys = list(keys)
        self.lost = ""

    @classmethod
    def burst(cls, keys: str, *, start_s: float, every_s: float) -> "Pressed":
        """`keys` one after the other, as a hurried caller or a phone's memory dials them."""
        return cls((start_s + position * every_s, key) for position, key in enumerate(keys))

    def question(self, first_key_s: float) -> None:
        """An instant is an instant, whatever is asked."""

    def take(self, now_s: float, until_s: float) -> tuple[float, str] | None:
        while self._keys and self._keys[0][0] < now_s:
            self.lost += self._keys.pop(0)[1]
        if self._keys and self._keys[0][0] <= until_s:
            return self._keys.pop(0)
        return None

    def leaves(self, now_s: float) -> bool:
        return bool(self._keys) and self._keys[0][1] == HANG_UP and self._keys[0][0] <= now_s + BETWEEN_CLIPS_S


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong on the way: everything is counted from the beginning of the connection."""

    # Instead of the reply to the command of this number (from 0), these bytes; None is the end of the connection.
    instead: Mapping[int, bytes | None] = field(default_factory=dict)
    # In front of the reply to the command of this number, these bytes.
    before: Mapping[int, bytes] = field(default_factory=dict)
    # The connection ends after the reply to the command of this number.
    last: int | None = None
    # The connection ends after so many bytes of ours.
    cut_after: int | None = None
    # How our bytes are cut into pieces, each of which travels alone.
    pieces: Callable[[bytes], Iterable[bytes]] | None = None


class _Link(asyncio.Protocol):
    def __init__(self) -> None:
        self.received = bytearray()
        self.ended = False
        self.news = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.received += data
        self.news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = True
        self.news.set()


class AsteriskDouble:
    """One channel. `call` runs the AGI application on it; what happened stands in the attributes afterwards."""

    def __init__(
        self,
        keys: Iterable[str] | Keypad = (),
        *,
        seconds: Callable[[str], float] = lambda _: 1.0,
        missing: Iterable[str] = (),
        exits_on_hangup: bool = True,
        commands_after_hangup: int = 0,
        hangup_seen_by_read: bool = False,
        faults: Faults | None = None,
        work_s: float = 0.001,
    ) -> None:
        self.keypad: Keypad = keys if isinstance(keys, Words | Pressed) else Words(keys)  # type: ignore[arg-type]  # a Keypad is one of the two
        self.seconds = seconds
        self.missing = frozenset(missing)
        self.exits_on_hangup = exits_on_hangup
        self.commands_after_hangup = commands_after_hangup
        self.hangup_seen_by_read = hangup_seen_by_read
        self.faults = faults or Faults()
        self.work_s = work_s

        self.clock_s = 0.0
        self.up = False
        self.hung_up = False
        # The dead-man timer ended the call: the dialplan goes on at extension T with the caller still there.
        self.timed_out = False
        # The dialplan arms the timer before AGI.
        self.absolute_s: float | None = 8.0
        self.response_s = 10.0
        self.digit_s = 5.0
        self.variables: dict[str, str] = {}
        # Every command as it came, and every clip that began to play.
        self.commands: list[str] = []
        self.heard: list[str] = []
        # What a gateway must never do; empty after a good call.
        self.violations: list[str] = []
        self._sent = 0

    async def call(
        self,
        host: str,
        port: int,
        *,
        route: str = "line",
        dialled: str = "800000100",
        caller: str = "+390350000101",
        name: str | bytes = "unknown",
        uniqueid: str = "1763917800.1",
        language: str = "it",
        presentation: int = 0,
        arguments: Sequence[str] = (),
        header: bytes | None = None,
    ) -> None:
        """Run `AGI(agi://host:port/route)` until one of the two ends it."""
        if header is None:
            header = agi_header(
                route=route,
                dialled=dialled,
                caller=caller,
                name=name,
                uniqueid=uniqueid,
                language=language,
                presentation=presentation,
                arguments=arguments,
            )
        dead = self.hung_up
        transport, link = await asyncio.get_running_loop().create_connection(_Link, host, port)
        try:
            await self._send(transport, header)
            await self._run(transport, link, dead)
        finally:
            transport.close()

    async def hangup_handler(self, host: str, port: int, **header: str) -> bool:
        """What the dialplan does when the channel is gone: report a confirmation that nobody read. True when it had to."""
        if not self.variables.get("IVR_ASKED") or self.variables.get("IVR_KEYS") != "1":
            return False
        await self.call(host, port, route="hungup", **header)  # type: ignore[arg-type]  # all of them are texts
        return True

    async def _run(self, transport: asyncio.Transport, link: _Link, dead: bool) -> None:
        after_hangup = self.commands_after_hangup
        for number in itertools.count():
            if self.hung_up and not dead:
                # Asterisk looks at the channel before it looks at the socket.
                if self.exits_on_hangup:
                    if after_hangup <= 0:
                        await self._send(transport, b"HANGUP\nHANGUP\n")
                        return
                    after_hangup -= 1
                else:
                    dead = True
                    await self._send(transport, b"HANGUP\n")
            line = await self._command(link)
            if line is None:
                return
            if len(self.commands) >= COMMANDS_MAX:
                self.violations.append("a loop")
                return
            self.commands.append(line)
            self.clock_s += self.work_s
            reply: bytes | None = self._executed(line, dead)
            # Everything that the gateway could still send before our reply would be a second command in flight.
            for _ in range(3):
                await asyncio.sleep(0)
            if link.received:
                self.violations.append(f"a second command in flight: {bytes(link.received[:80])!r}")
            reply = self.faults.instead.get(number, reply)
            if reply is None:
                return
            await self._send(transport, self.faults.before.get(number, b"") + reply)
            if transport.is_closing() or number == self.faults.last:
                return

    async def _command(self, link: _Link) -> str | None:
        async with asyncio.timeout(GATEWAY_S):
            while b"\n" not in link.received[:LINE_BYTES_MAX]:
                if len(link.received) >= LINE_BYTES_MAX:
                    self.violations.append(f"a command longer than {LINE_BYTES_MAX} bytes")
                    break
                if link.ended:
                    return None
                link.news.clear()
                await link.news.wait()
        size = link.received.find(b"\n", 0, LINE_BYTES_MAX) + 1 or LINE_BYTES_MAX
        line = bytes(link.received[:size])
        del link.received[:size]
        return line.removesuffix(b"\n").decode()

    async def _send(self, transport: asyncio.Transport, data: bytes) -> None:
        cut = self.faults.cut_after
        if cut is not None and self._sent + len(data) > cut:
            data = data[: cut - self._sent]
        for piece in self.faults.pieces(data) if self.faults.pieces else (data,):
            transport.write(piece)
            if self.faults.pieces:
                await asyncio.sleep(0)
        self._sent += len(data)
        if cut is not None and self._sent >= cut:
            transport.close()

    def _executed(self, line: str, dead: bool) -> bytes:
        arguments = parsed_arguments(line)
        match [word.upper() for word in arguments[:3]], arguments:
            case ["ANSWER"], _:
                if dead:
                    return b"511 Command Not Permitted on a dead channel\n"
                self.up = True
                return b"200 result=0\n"
            case ["SET", "VARIABLE", _], [_, _, name, value, *_]:
                self._set(name, value)
                return b"200 result=1\n"
            case ["GET", "VARIABLE", _], [_, _, name]:
                found = self.variables.get(name)
                return b"200 result=0\n" if found is None else f"200 result=1 ({found[:1023]})\n".encode()
            case ["GET", "FULL", "VARIABLE"], [_, _, _, expression]:
                return f"200 result=1 ({self._substituted(expression)})\n".encode()
            case ["EXEC", "READ", _], [_, _, data, *_]:
                self._read(data)
                return b"200 result=0\n"
            case ["EXEC", "PLAYBACK", _], [_, _, data, *_]:
                self._playback(data)
                return b"200 result=-1\n" if self.hung_up else b"200 result=0\n"
            case ["EXEC", *_], _:
                return b"200 result=-2\n"
            case ["SET" | "GET", *_], _:
                return (
                    b"520-Invalid command syntax.  Proper usage follows:\n Usage: as documented\n"
                    b" Returns 200 result=1 if it worked.\n520 End of proper usage.\n"
                )
            case _:
                return b"510 Invalid or unknown command\n"

    def _set(self, name: str, value: str) -> None:
        match name.upper():
            case "TIMEOUT(ABSOLUTE)":
                self.absolute_s = self.clock_s + float(value) if float(value) else None
            case "TIMEOUT(RESPONSE)":
                self.response_s = float(value)
            case "TIMEOUT(DIGIT)":
                self.digit_s = float(value)
            case _:
                self.variables[name] = value

    def _substituted(self, expression: str) -> str:
        return re.sub(r"\$\{(\w+)\}", lambda match: self.variables.get(match[1], ""), expression)

    def _playback(self, data: str) -> None:
        if not self.up:
            self.up = True
        for clip in data.split(",")[0].split("&"):
            if clip in self.missing or self.hung_up:
                continue
            self.heard.append(clip)
            ends_s = self.clock_s + self.seconds(clip)
            # Keys are read from the channel and thrown away; only a hang-up counts.
            while pressed := self.keypad.take(self.clock_s, ends_s):
                self._press(*pressed)
            self._pass_until(ends_s)

    def _read(self, data: str) -> None:
        variable, clips, digits, _, _, wait, *_ = [*data.split(","), "", "", "", "", ""]
        assert not wait, "a Read with a time-out of its own treats the first key and the others alike"
        self.variables["READSTATUS"] = "ERROR"
        maximum = int(digits) if digits and 1 <= int(digits) <= 255 else 255
        if variable == "IVR_KEYS":
            self.keypad.question(self.response_s)
        keyed, status = self._getdata(clips.split("&"), maximum)
        leaves = self.keypad.leaves(self.clock_s)
        self.hung_up = self.hung_up or (leaves and self.hangup_seen_by_read)
        self.variables[variable] = keyed
        self.variables["READSTATUS"] = "HANGUP" if self.hung_up else status
        self.hung_up = self.hung_up or leaves

    def _getdata(self, clips: Sequence[str], maximum: int) -> tuple[str, str]:
        status = "ERROR"
        for position, clip in enumerate(clips):
            last = position == len(clips) - 1
            if clip in self.missing:
                status = "ERROR"
                continue
            if clip and not self.hung_up:
                self.heard.append(clip)
            wait_s = self.response_s if last else BETWEEN_CLIPS_S
            keyed, status = self._readstring((self.seconds(clip) if clip else 0.0) + wait_s, maximum)
            if keyed or status == "OK" or self.hung_up:
                return keyed, status
        return "", status

    def _readstring(self, first_s: float, maximum: int) -> tuple[str, str]:
        keyed, wait_s = "", first_s
        while True:
            until_s = self.clock_s + wait_s
            pressed = self.keypad.take(self.clock_s, until_s)
            key = self._press(*pressed) if pressed else ""
            self._pass_until(self.clock_s if pressed else until_s)
            if self.hung_up:
                return keyed, "ERROR"
            if not key:
                return keyed, "TIMEOUT"
            if key == "#":
                return keyed, "OK"
            keyed += key
            if len(keyed) >= maximum:
                return keyed, "OK"
            wait_s = self.digit_s

    def _press(self, at_s: float, key: str) -> str:
        self._pass_until(at_s)
        if key == HANG_UP:
            self.hung_up = True
        return "" if self.hung_up else key

    def _pass_until(self, at_s: float) -> None:
        if self.absolute_s is not None and at_s > self.absolute_s:
            at_s = self.absolute_s
            self.hung_up = self.timed_out = True
        self.clock_s = max(self.clock_s, at_s)


def agi_header(
    *,
    route: str = "line",
    dialled: str = "800000100",
    caller: str = "+390350000101",
    name: str | bytes = "unknown",
    uniqueid: str = "1763917800.1",
    language: str = "it",
    presentation: int = 0,
    arguments: Sequence[str] = (),
) -> bytes:
    """The header of `setup_env` in res_agi.c, field by field."""
    fields: list[tuple[str, str | bytes]] = [
        ("agi_network", "yes"),
        ("agi_network_script", route),
        ("agi_request", f"agi://127.0.0.1/{route}"),
        ("agi_channel", "PJSIP/trunk-00000001"),
        ("agi_language", language),
        ("agi_type", "PJSIP"),
        ("agi_uniqueid", uniqueid),
        ("agi_version", "22.10.1"),
        ("agi_callerid", caller),
        ("agi_calleridname", name),
        ("agi_callingpres", str(presentation)),
        ("agi_callingani2", "0"),
        ("agi_callington", "0"),
        ("agi_callingtns", "0"),
        ("agi_dnid", dialled),
        ("agi_rdnis", "unknown"),
        ("agi_context", "from-trunk"),
        ("agi_extension", dialled),
        ("agi_priority", "7"),
        ("agi_enhanced", "0.0"),
        ("agi_accountcode", ""),
        ("agi_threadid", "139872"),
        *((f"agi_arg_{position}", argument) for position, argument in enumerate(arguments, start=1)),
    ]
    lines = (
        key.encode() + b": " + (value if isinstance(value, bytes) else value.encode()) + b"\n" for key, value in fields
    )
    return b"".join(lines) + b"\n"


def parsed_arguments(line: str) -> list[str]:
    """The words of a command as `parse_args` of res_agi.c cuts them: quotes join, a backslash makes the next character plain."""
    words: list[str] = []
    quoted = escaped = False
    between = True
    for character in line:
        if character == '"' and not escaped:
            quoted = not quoted
            if quoted and between:
                words.append("")
                between = False
        elif character in " \t" and not quoted and not escaped:
            between = True
        elif character == "\\" and not escaped:
            escaped = True
            continue
        else:
            if between:
                words.append("")
                between = False
            words[-1] += character
        escaped = False
    return words
