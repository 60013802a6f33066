"""Whatever bytes come and however they are cut: a call ends, the server lives, and nothing changes without its key (R18)."""

import asyncio
import gc
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ivr.agi import AgiLine, IncomingCall
from ivr.agi_protocol import Reply, command, parsed_reply
from ivr.line import Keys, prompt
from tests.agi_serving import HOST, Serving, serving
from tests.asterisk_double import AsteriskDouble, Faults, agi_header, parsed_arguments

# Small, so that every byte of a whole call can be the last one.
HEADER = b"agi_network_script: line\nagi_request: x\nagi_uniqueid: 1.1\n\n"

printable = st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=200)


class Desk:
    """One call of two questions; what it was told, what it stored, and for which keys."""

    def __init__(self) -> None:
        self.stored: list[str] = []
        self.answers: list[Keys] = []

    async def on_line(self, line: AgiLine, call: IncomingCall) -> None:
        await line.say(prompt("welcome"))
        self.answers.append(await line.ask(prompt("menu")))
        await line.before_confirming("1;a;b")
        self.answers.append(await line.ask(prompt("confirm")))
        if self.answers[-1].digits == "1":
            await line.before_saving()
            self.stored.append("4712")
            await line.saved(["4712"])
            await line.outcome("cancelled")
        await line.say(prompt("goodbye"))


def one_call(asterisk: AsteriskDouble, header: bytes | None = HEADER) -> Desk:
    """The call against a server of its own, which serves another call after it."""
    desk = Desk()

    async def both() -> None:
        async with serving(desk.on_line) as running:
            # Closing on somebody who still sends is one way to end it.
            with suppress(ConnectionError):
                await asterisk.call(HOST, running.port, header=header)
            await running.all_calls_ended()
            answers, stored = len(desk.answers), len(desk.stored)
            await served(running)
            del desk.answers[answers:], desk.stored[stored:]

    asyncio.run(both())
    return desk


async def served(running: Serving) -> None:
    asterisk = AsteriskDouble(["1", "1"])
    await asterisk.call(HOST, running.port, header=HEADER)
    assert asterisk.variables["IVR_ENDED"] == "1"
    assert asterisk.violations == []


def cut(data: bytes, places: Iterable[int]) -> Iterator[bytes]:
    """`data` in pieces, the next one as long as `places` says, as long as it says anything."""
    for place in places:
        piece, data = data[:place], data[place:]
        if piece:
            yield piece
    if data:
        yield data


WHOLE = AsteriskDouble(["7", "1"])


@pytest.fixture(scope="module", autouse=True)
def whole_call() -> None:
    desk = one_call(WHOLE)
    assert desk.stored == ["4712"]


@settings(max_examples=60, deadline=None)
@given(places=st.lists(st.integers(1, 40), max_size=30))
def test_a_call_cut_into_any_pieces_is_the_same_call(places: Sequence[int]) -> None:
    asterisk = AsteriskDouble(["7", "1"], faults=Faults(pieces=lambda data: cut(data, places)))

    desk = one_call(asterisk, agi_header())

    assert asterisk.commands == WHOLE.commands
    assert asterisk.variables == WHOLE.variables
    assert desk.answers == [Keys("7"), Keys("1")]
    assert desk.stored == ["4712"]


@pytest.mark.parametrize("tenth", range(10))
def test_R18_wherever_a_call_is_cut_off_it_ends_and_only_a_key_that_was_read_is_stored(tenth: int) -> None:
    # Header, 22 replies: about 460 bytes, of which each is the last one once.
    for cut_after in range(tenth, WHOLE._sent + 1, 10):
        asterisk = AsteriskDouble(["7", "1"], faults=Faults(cut_after=cut_after))

        desk = one_call(asterisk)

        assert desk.stored == (["4712"] if Keys("1") in desk.answers else [])
        assert asterisk.violations == []


@pytest.mark.parametrize(
    "reply",
    [b"511 Command Not Permitted on a dead channel\n", b"HANGUP\nHANGUP\n", b"200 result=-1\n"],
    ids=["511", "HANGUP", "-1"],
)
def test_R18_wherever_the_caller_goes_every_key_that_was_read_is_stored_and_no_other(reply: bytes) -> None:
    for number in range(len(WHOLE.commands)):
        asterisk = AsteriskDouble(["7", "1"], faults=Faults(instead={number: reply}, last=number))

        desk = one_call(asterisk)

        assert desk.stored == (["4712"] if Keys("1") in desk.answers else [])
        assert asterisk.violations == []


@pytest.mark.parametrize(
    "reply",
    [
        b"510 Invalid or unknown command\n",
        b"520-Invalid command syntax.  Proper usage follows:\n Usage: x\n200 result=1\n520 End of proper usage.\n",
        b"\x00\xff" * 20_000 + b"\n",
        b"HANGUP\n" * 1_000,
        b"520-" + b"usage\n" * 1_000,
    ],
    ids=["510", "520", "binary", "many HANGUP", "endless 520"],
)
def test_R18_whatever_breaks_instead_of_any_reply_nothing_is_said_to_be_stored_that_is_not(reply: bytes) -> None:
    for number in range(len(WHOLE.commands)):
        asterisk = AsteriskDouble(["7", "1"], faults=Faults(instead={number: reply}))

        desk = one_call(asterisk)

        assert Keys("1") in desk.answers or not desk.stored
        assert asterisk.variables.get("IVR_SAVED", "") in ({"", "pending"} if not desk.stored else {"pending", "4712"})
        assert asterisk.violations == []


@settings(max_examples=150, deadline=None)
@given(garbage=st.binary(max_size=300), behind_a_header=st.booleans())
def test_no_bytes_hang_the_server_or_get_an_exception_out_of_it(garbage: bytes, behind_a_header: bool) -> None:
    desk = Desk()

    async def throw() -> None:
        async with serving(desk.on_line) as running:
            reader, writer = await asyncio.open_connection(HOST, running.port)
            writer.write(HEADER + garbage if behind_a_header else garbage)
            writer.write_eof()
            async with asyncio.timeout(5):
                with suppress(ConnectionError):
                    while await reader.read(65_536):
                        pass
            writer.close()
            await running.all_calls_ended()
            assert not desk.stored
            await served(running)

    asyncio.run(throw())


@settings(max_examples=100, deadline=None)
@given(number=st.integers(0, 21), reply=st.binary(max_size=100))
def test_R18_no_reply_of_any_bytes_stores_what_was_not_keyed(number: int, reply: bytes) -> None:
    asterisk = AsteriskDouble(["7", "2"], faults=Faults(instead={number: reply + b"\n"}, last=number))

    desk = one_call(asterisk)

    assert desk.stored == []
    assert asterisk.violations == []


@given(arguments=st.lists(printable, min_size=1, max_size=4))
def test_every_argument_arrives_as_it_was(arguments: Sequence[str]) -> None:
    assert parsed_arguments(command("SET VARIABLE", *arguments)) == ["SET", "VARIABLE", *arguments]


@given(value=printable)
def test_every_value_comes_back_as_it_was(value: str) -> None:
    assert parsed_reply(f"200 result=1 ({value})") == Reply(200, "1", value)


@given(line=st.text(max_size=300))
def test_any_line_is_a_reply_or_none(line: str) -> None:
    reply = parsed_reply(line)

    assert reply is None or 0 <= reply.code <= 999


def test_nothing_was_left_running_or_raised_unseen(recwarn: pytest.WarningsRecorder) -> None:
    one_call(AsteriskDouble(["7", "1"]))
    gc.collect()

    assert [str(warning.message) for warning in recwarn if issubclass(warning.category, ResourceWarning)] == []
