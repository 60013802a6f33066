"""A caller on Asterisk as a `Line`: what a flow says and asks, as AGI commands. The socket is somebody else's.

One question is one `EXEC Read`, however many clips it has, because keys pressed between two commands are lost. For the
same reason what may be interrupted is not played at once: it waits for the next question and is played in front of it.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ivr.agi_protocol import CONFIRMING_KEY, Reply, asked, checked_request, clip_parts, command
from ivr.line import HungUp, Keys, LineFailed, Prompt

# Clips waiting for the next question; a flow that says more without asking is heard before it goes on.
QUEUED_CLIPS_MAX = 200
# Asterisk's Read takes 255; no code, date or PIN comes near.
DIGITS_MAX = 32
# How long to go on listening after clips when the next part, or the end of the call, follows: as long as Asterisk
# itself waits between two clips of one Read.
NEXT_PART_S = 0.05

_ANSWER = re.compile(r"([0-9A-Za-z*]{0,255})\|([A-Z]*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class AgiLimits:
    """Every limit of the line and its server, in seconds, bytes and numbers."""

    # From the end of a prompt to the first key. Five seconds is long enough to look a code up on a sheet of paper.
    first_key_s: float = 5
    # Between two keys of one answer.
    next_key_s: float = 2
    # Asterisk answers a command that plays nothing in under a millisecond; five seconds of silence is a broken one.
    reply_s: float = 5
    # What a question may take beyond its clips and its waits before Asterisk takes the call back from us (the dead-man timer).
    margin_s: float = 8
    # From `before_saving` to the next question: the commit. Then the caller hears that we do not know.
    saving_s: float = 8
    # The longest call. Nobody cancels a meal for ten minutes, and every channel is somebody else's busy tone.
    call_s_max: float = 600
    # A flow that still runs this long after its longest call is stuck; its socket is closed so that the caller is freed.
    overdue_s: float = 60
    # A connection has this long to send a whole header and to answer the first commands; Asterisk does it at once.
    header_s_max: float = 2
    # Asterisk's header is about 700 bytes in 22 lines.
    header_bytes_max: int = 16_384
    header_lines_max: int = 100
    # A usage block after 520 has about twenty lines; hang-up lines come twice.
    reply_lines_max: int = 200
    # Connections that are not yet calls. The oldest is dropped for a newer one, so garbage keeps nobody out.
    half_open_max: int = 256
    # Calls at once; above it Asterisk is told to try the next gateway.
    sessions_max: int = 1_000
    # What the hangup handler waits for a confirmation to be stored; the storing itself is not cut off by it.
    hungup_s: float = 10
    # What a running call gets after its socket was closed at shutdown, to finish its commit.
    close_s: float = 5


class CallTooLong(LineFailed):
    """Raised at the next question of a call that lasted longer than `call_s_max`; nothing is interrupted by it."""


class Exchange(Protocol):
    """One connection of Asterisk: a command goes out, its reply comes back, never two at once."""

    # The caller is gone: a HANGUP line, a 511, or the end of the connection was seen.
    hung_up: bool
    # Nothing can be sent any more.
    closed: bool

    async def send_command(self, command: str, timeout_s: float) -> Reply:
        """The reply to `command`; raises `HungUp` at the end of the connection, `LineFailed` for anything unexpected."""


def generous_playing_s(clips: Sequence[str]) -> float:
    """A bound for how long `clips` play when nobody measured them: sentences are few, composed words are short."""
    return 10 + 3 * len(clips)


class AgiLine:
    """Fills `ivr.line.Line` for one call.

    The call is answered at the first thing that is played, so a flow that plays nothing leaves the call unanswered.
    """

    def __init__(
        self,
        exchange: Exchange,
        clips: Callable[[Prompt, str], Sequence[str]],
        *,
        now: Callable[[], float],
        language: str = "it",
        limits: AgiLimits | None = None,
        playing_s: Callable[[Sequence[str]], float] = generous_playing_s,
    ) -> None:
        self.language = language
        self._exchange = exchange
        self._clips = clips
        self._now = now
        self._limits = limits or AgiLimits()
        self._playing_s = playing_s
        self._told_language = language
        self._ends_by = now() + self._limits.call_s_max
        self._queued: list[str] = []
        self._started = False
        self._confirming = False
        # The request still stands with the channel, its answer being known to us.
        self._confirmed = False
        self._answered_at = now()
        self._first_key_s = self._limits.first_key_s
        self._failed = False

    @property
    def started(self) -> bool:
        """Whether the call was answered and something was or will be heard."""
        return self._started

    async def open(self) -> None:
        """Set the waits for keys; the first commands of a connection, so a peer that is no Asterisk is found out here."""
        await self._set("TIMEOUT(response)", _seconds(self._first_key_s))
        await self._set("TIMEOUT(digit)", _seconds(self._limits.next_key_s))

    async def say(self, *prompts: Prompt, interruptible: bool = True) -> None:
        """Play `prompts` in front of the next question, or at once and to their end where not interruptible.

        Keys pressed while something not interruptible plays are lost.
        """
        self._check()
        self._queued += self._rendered(prompts)
        if not interruptible:
            await self._start()
            for part in clip_parts(self._taken()):
                await self._play("EXEC Playback", part, part, 0)
        elif len(self._queued) > QUEUED_CLIPS_MAX:
            await self._start()
            await self._flush()

    async def ask(self, *prompts: Prompt, digits: int = 1) -> Keys:
        """Play what waits and `prompts`, interrupted by the first key, and collect up to `digits` keys."""
        self._check()
        if not 1 <= digits <= DIGITS_MAX:
            raise ValueError(f"digits={digits}: expected 1 to {DIGITS_MAX}; nothing was asked")
        clips = [*self._taken(), *self._rendered(prompts)]
        await self._start()
        if self.language != self._told_language:
            # The fallback speaks it, should this process die.
            await self._set("IVR_LANGUAGE", self.language)
            self._told_language = self.language
        await self._no_longer_asked()
        keys = await self._collect(clips, digits)
        self._answered_at = self._now()
        if self._confirming:
            self._confirming, self._confirmed = False, True
            if keys.digits != CONFIRMING_KEY:
                await self._no_longer_asked()
        return keys

    async def before_confirming(self, request: str) -> None:
        """Leave `request` with the channel for the very next `ask`, so that its 1 counts even when we never read it.

        `request` is opaque printable ASCII of at most 800 bytes, else ValueError. It stands for one `ask` only, and when that
        was confirmed until `saved`: another gateway can then do what this process no longer can.
        """
        self._check()
        checked_request(request)
        # The key of the question before is still in IVR_KEYS; it must not pass for a confirmation of this one.
        await self._set("IVR_KEYS", "")
        await self._set("IVR_REQUEST", request)
        await self._set("IVR_ASKED", asked(request))
        self._confirming, self._confirmed = True, False

    async def before_saving(self) -> None:
        """Set `IVR_SAVED` to `pending`, and come back when Asterisk has it.

        A caller who hung up meanwhile stops nothing. `LineFailed` is raised: nothing is stored then, and the fallback
        that now speaks to the caller says so. `HungUp` is raised only when this process stood still since the key for so
        long that the dead-man timer may have told the caller already that nothing was changed.
        """
        try:
            await self._arm(self._limits.saving_s)
            await self._set("IVR_SAVED", "pending")
        except HungUp:
            if self._now() - self._answered_at >= self._limits.margin_s:
                raise

    async def saved(self, receipts: Sequence[str]) -> None:
        """Set `IVR_SAVED` to the receipts of the call, earlier ones included. Never raises for the line."""
        await self._quietly("IVR_SAVED", "-".join(receipts))
        await self._no_longer_asked()

    async def outcome(self, word: str) -> None:
        """Set `IVR_OUTCOME`. Never raises for the line."""
        await self._quietly("IVR_OUTCOME", word)

    async def refuse(self, reason: str) -> None:
        """Say why this call is not taken, unanswered, so that the dialplan tries elsewhere."""
        await self._set("IVR_REFUSED", reason)

    async def end_with(self, *prompts: Prompt) -> None:
        """Say a last thing, however long the call has lasted, and end it."""
        self._ends_by = math.inf
        await self.say(*prompts)
        await self.end()

    async def end(self) -> None:
        """Play what still waits and set `IVR_ENDED`: from here on the dialplan may hang up without a word."""
        if self._exchange.hung_up:
            return
        if self._queued:
            await self._start()
            await self._flush()
        if self._started:
            await self._set("IVR_ENDED", "1")

    def _check(self) -> None:
        if self._exchange.hung_up:
            raise HungUp
        if self._failed:
            raise LineFailed("the line failed while something was being stored; the call ends here")
        if self._now() > self._ends_by:
            raise CallTooLong(f"the call lasts longer than {self._limits.call_s_max:g} s; it ends here")

    def _rendered(self, prompts: Sequence[Prompt]) -> list[str]:
        return [clip for prompt in prompts for clip in self._clips(prompt, self.language)]

    def _taken(self) -> list[str]:
        clips, self._queued = self._queued, []
        return clips

    async def _start(self) -> None:
        if self._started:
            return
        await self._command("ANSWER")
        await self._set("IVR_STARTED", "1")
        self._started = True

    async def _collect(self, clips: Sequence[str], digits: int) -> Keys:
        *earlier, last = clip_parts(clips)
        for part in earlier:
            keys = await self._read(part, part.split("&"), digits, NEXT_PART_S)
            if not keys.is_silence:
                return keys
        return await self._read(last, last.split("&") if last else (), digits, self._limits.first_key_s)

    async def _read(self, part: str, clips: Sequence[str], digits: int, first_key_s: float) -> Keys:
        await self._wait_for_first_key(first_key_s)
        waits_s = first_key_s + digits * self._limits.next_key_s
        try:
            await self._play("EXEC Read", f"IVR_KEYS,{part},{digits},,1", "&".join(clips), waits_s)
        except HungUp:
            # Asterisk may still have the keys, and answers once more when it was not told to leave at a hang-up.
            if self._exchange.closed:
                raise
        reply = await self._command("GET FULL VARIABLE", "${IVR_KEYS}|${READSTATUS}")
        answer = _ANSWER.fullmatch(reply.value or "")
        if answer is None:
            raise LineFailed("GET FULL VARIABLE: expected KEYS|READSTATUS, got something else; the call ends here")
        return self._keys(*answer.groups())

    def _keys(self, keyed: str, status: str) -> Keys:
        match status:
            case "OK":
                return Keys(keyed)
            case "TIMEOUT":
                return Keys(keyed, timed_out=True)
            case "HANGUP":
                self._exchange.hung_up = True
                # Who hangs up right after the confirming key has confirmed (R18).
                if keyed and self._confirming:
                    return Keys(keyed)
                raise HungUp(keyed)
            case _:
                # ERROR is a missing last clip, INTERRUPTED a second command in flight, SKIPPED a call not answered.
                raise LineFailed(f"READSTATUS is {status}; expected OK, TIMEOUT or HANGUP; the call ends here")

    async def _flush(self) -> None:
        await self._wait_for_first_key(NEXT_PART_S)
        for part in clip_parts(self._taken()):
            # Its key is nobody's answer, so it goes to a variable of its own.
            await self._play("EXEC Read", f"IVR_SKIP,{part},1,,1", part, NEXT_PART_S)

    async def _play(self, verb: str, argument: str, clips: str, waits_s: float) -> None:
        playing_s = self._playing_s(clips.split("&")) if clips else 0.0
        seconds = playing_s + waits_s + self._limits.margin_s
        await self._arm(seconds)
        # Asterisk's own timer ends the command first; ours is for an Asterisk that stands still.
        await self._command(verb, argument, timeout_s=seconds + self._limits.reply_s)

    async def _wait_for_first_key(self, seconds: float) -> None:
        # Read has one time-out for the first key and for the others; only the channel's own keep them apart.
        if seconds != self._first_key_s:
            await self._set("TIMEOUT(response)", _seconds(seconds))
            self._first_key_s = seconds

    async def _arm(self, seconds: float) -> None:
        await self._set("TIMEOUT(absolute)", str(math.ceil(seconds)))

    async def _no_longer_asked(self) -> None:
        if self._confirmed:
            self._confirmed = False
            await self._quietly("IVR_ASKED", "")

    async def _quietly(self, name: str, value: str) -> None:
        if self._exchange.closed:
            return
        try:
            await self._set(name, value)
        except HungUp:
            return
        except LineFailed:
            # The next question raises it; what is stored is stored.
            self._failed = True

    async def _set(self, name: str, value: str) -> None:
        reply = await self._command(f"SET VARIABLE {name}", value)
        if reply.result != "1":
            raise LineFailed(f"SET VARIABLE {name}: result {reply.result!r}; expected 1; the call ends here")

    async def _command(self, verb: str, *arguments: str, timeout_s: float | None = None) -> Reply:
        reply = await self._exchange.send_command(command(verb, *arguments), timeout_s or self._limits.reply_s)
        if reply.code == 511 or (reply.code == 200 and reply.result == "-1"):
            # A dead channel, or an application that a hang-up ended.
            self._exchange.hung_up = True
            raise HungUp
        if reply.code != 200 or reply.result == "-2":
            raise LineFailed(f"{verb}: {reply.code} {reply.result[:80]!r}; expected 200; the call ends here")
        return reply


def _seconds(seconds: float) -> str:
    return f"{seconds:g}"
