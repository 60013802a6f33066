"""The link to Asterisk's manager interface, against a double that is cut off, slow, silent or wrong."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from ivr.ami import LINK_DOWN, LINK_UP, RESYNCHRONISED, AmiEvent, AmiLimits, AmiLink, AmiLinkLost
from tests.ami_double import SECRET, USERNAME, AmiServer, event

# Waits in the tests are as short as an event loop allows; what is tested is their order, never their length.
QUICK = AmiLimits(
    connect_s=2, login_s=0.3, answer_s=0.3, ping_every_s=60, ping_s=0.1, retry_first_s=0.01, retry_most_s=0.05
)
# Never reached: only a link that hangs would wait for it.
HANGS_S = 20


@dataclass
class Heard:
    """What a link handed on and told, and a way to wait for it."""

    events: list[AmiEvent] = field(default_factory=list)
    lines: list[tuple[str, dict[str, object]]] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, heard: AmiEvent) -> None:
        self.events.append(heard)
        self.changed.set()

    def info(self, event: str, /, **fields: object) -> None:
        self.lines.append((event, fields))
        self.changed.set()

    warning = info

    def names(self) -> list[str]:
        return [heard.name for heard in self.events]

    def told(self) -> list[str]:
        return [line for line, _ in self.lines]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(HANGS_S):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    async def until_event(self, name: str, times: int = 1) -> None:
        await self.until(lambda: self.names().count(name) >= times)

    async def until_told(self, line: str, times: int = 1) -> None:
        await self.until(lambda: self.told().count(line) >= times)


@asynccontextmanager
async def linked(
    server: AmiServer,
    limits: AmiLimits = QUICK,
    *,
    secret: str = SECRET,
    on_event: Callable[[AmiEvent], None] | None = None,
) -> AsyncIterator[tuple[AmiLink, Heard]]:
    """A link to `server` that runs until the block ends."""
    heard = Heard()
    link = AmiLink("127.0.0.1", server.port, USERNAME, secret, on_event or heard.take, heard, limits, lambda: 1.0)
    running = asyncio.create_task(link.run())
    try:
        yield link, heard
    finally:
        link.close()
        async with asyncio.timeout(HANGS_S):
            await running


async def test_the_secret_never_travels_in_clear() -> None:
    async with AmiServer() as server, linked(server) as (_, heard):
        await heard.until_event(RESYNCHRONISED)

        assert SECRET.encode() not in server.received
        assert server.names() == ["challenge", "login", "coreshowchannels"]
        assert server.actions[1]["authtype"] == "MD5"


async def test_events_of_the_classes_that_carry_pins_are_not_asked_for() -> None:
    async with AmiServer() as server, linked(server) as (_, heard):
        await heard.until_event(LINK_UP)

        assert server.actions[1]["events"] == "call,user,system"


async def test_events_are_handed_on_in_their_order() -> None:
    async with AmiServer() as server, linked(server) as (_, heard):
        await heard.until_event(RESYNCHRONISED)

        server.send(event("Newchannel", Uniqueid="1.1"), event("Hangup", Uniqueid="1.1", Cause_txt="Normal Clearing"))
        await heard.until_event("Hangup")

        assert heard.names()[-2:] == ["Newchannel", "Hangup"]
        assert heard.events[-1]["uniqueid"] == "1.1"
        assert heard.events[-1]["Cause-txt"] == "Normal Clearing"
        assert heard.events[-1]["AccountCode"] == ""


async def test_a_name_cut_in_the_middle_of_a_letter_arrives_whole() -> None:
    async with AmiServer(piece_bytes=1) as server, linked(server) as (_, heard):
        await heard.until_event(RESYNCHRONISED)

        server.send(event("Newchannel", CallerIDName="Nicolò"))
        await heard.until_event("Newchannel")

        assert heard.events[-1]["CallerIDName"] == "Nicolò"


async def test_bytes_that_are_no_utf_8_cost_a_letter_and_nothing_else() -> None:
    async with AmiServer() as server, linked(server) as (link, heard):
        await heard.until_event(RESYNCHRONISED)

        server.send(b"Event: Newchannel\r\nCallerIDName: Nicol\xf2\r\nUniqueid: 1.1\r\n\r\n")
        await heard.until_event("Newchannel")

        assert heard.events[-1]["CallerIDName"] == "Nicol\N{REPLACEMENT CHARACTER}"
        assert heard.events[-1]["Uniqueid"] == "1.1"
        assert link.connected


async def test_after_each_login_the_channels_that_are_up_are_asked_for() -> None:
    async with AmiServer(channels=({"Uniqueid": "1.1"}, {"Uniqueid": "1.2"})) as server, linked(server) as (_, heard):
        await heard.until_event(RESYNCHRONISED)
        server.close_clients()
        await heard.until_event(RESYNCHRONISED, times=2)

        once = [LINK_UP, "CoreShowChannel", "CoreShowChannel", RESYNCHRONISED]
        of_the_link = [name for name in heard.names() if name != "FullyBooted"]
        assert of_the_link == [*once, LINK_DOWN, *once]
        assert [each["Uniqueid"] for each in heard.events if each.name == "CoreShowChannel"][:2] == ["1.1", "1.2"]


async def test_an_account_that_may_not_see_the_channels_still_gets_events() -> None:
    def refuse(action: dict[str, str]) -> str | None:
        if action["action"] != "CoreShowChannels":
            return None
        return f"Response: Error\r\nActionID: {action['actionid']}\r\nMessage: Permission denied\r\n\r\n"

    async with AmiServer(respond=refuse) as server, linked(server) as (link, heard):
        await heard.until_told("ami_resync_refused")
        server.send(event("Newchannel", Uniqueid="1.1"))
        await heard.until_event("Newchannel")

        assert link.connected
        assert dict(heard.lines)["ami_resync_refused"]["reason"] == "Permission denied"


async def test_a_rejected_login_says_bad_credentials_and_is_not_hammered() -> None:
    heard = Heard()
    async with AmiServer() as server:
        link = AmiLink("127.0.0.1", server.port, USERNAME, "guessed", heard.take, heard, QUICK, lambda: 1.0)

        assert await link._live(0) == AmiLimits().rejected_s > AmiLimits().retry_most_s

        assert not link.connected
        assert dict(heard.lines)["ami_rejected"]["reason"] == "bad credentials"
        assert dict(heard.lines)["ami_rejected"]["again_in_s"] == AmiLimits().rejected_s
        assert "guessed" not in str(heard.lines)


async def test_an_asterisk_that_offers_no_challenge_does_not_get_the_secret_in_clear() -> None:
    def refuse(action: dict[str, str]) -> str | None:
        return f"Response: Error\r\nActionID: {action['actionid']}\r\nMessage: Must specify AuthType\r\n\r\n"

    async with AmiServer(respond=refuse) as server, linked(server) as (_, heard):
        await heard.until_told("ami_lost")

        assert "login" not in server.names()
        assert SECRET.encode() not in server.received


async def test_the_link_comes_back_when_asterisk_restarts() -> None:
    async with AmiServer() as server, linked(server) as (link, heard):
        await heard.until_event(LINK_UP)
        await server.stop()
        await heard.until_told("ami_lost", times=3)
        await server.start()
        await heard.until_event(LINK_UP, times=2)

        server.send(event("Newchannel", Uniqueid="2.1"))
        await heard.until_event("Newchannel")

        assert link.connected
        assert link.logins == 2


async def test_each_failure_makes_the_next_wait_longer_up_to_the_limit() -> None:
    server = AmiServer()
    await server.start()
    await server.stop()

    async with linked(server) as (_, heard):
        await heard.until_told("ami_lost", times=5)

    waits = [fields["again_in_s"] for line, fields in heard.lines if line == "ami_lost"]
    assert waits[:5] == [0.01, 0.02, 0.04, 0.05, 0.05]


async def test_gateways_that_lost_one_asterisk_do_not_come_back_in_one_instant() -> None:
    server = AmiServer()
    await server.start()
    await server.stop()
    one = AmiLink("127.0.0.1", server.port, USERNAME, SECRET, Heard().take, Heard(), QUICK, lambda: 0.0)
    other = AmiLink("127.0.0.1", server.port, USERNAME, SECRET, Heard().take, Heard(), QUICK, lambda: 1.0)

    assert await one._live(3) < await other._live(3)


async def test_a_ping_without_an_answer_is_noticed_and_the_link_made_anew() -> None:
    limits = AmiLimits(login_s=2, ping_every_s=0.01, ping_s=0.05, retry_first_s=0.01, retry_most_s=0.05)
    no_pong = frozenset({"challenge", "login", "coreshowchannels"})
    async with AmiServer(answers=no_pong) as server, linked(server, limits) as (_, heard):
        await heard.until_event(LINK_UP, times=2)

        assert heard.lines[1][0] == "ami_lost"
        assert "Ping" in str(heard.lines[1][1]["reason"])
        assert LINK_DOWN in heard.names()


async def test_pings_that_are_answered_keep_the_link() -> None:
    limits = AmiLimits(ping_every_s=0.01, ping_s=HANGS_S)
    async with AmiServer() as server, linked(server, limits) as (link, heard):
        async with asyncio.timeout(HANGS_S):
            await server.until(lambda: server.names().count("ping") >= 5)

        assert server.connections == 1
        assert link.connected
        assert "ami_lost" not in heard.told()


@pytest.mark.parametrize("answers", [frozenset[str](), frozenset({"challenge"})])
async def test_an_asterisk_that_stops_answering_during_login_is_left(answers: frozenset[str]) -> None:
    async with AmiServer(answers=answers) as server, linked(server) as (link, heard):
        await heard.until_told("ami_lost", times=2)

        assert not link.connected
        assert server.connections >= 2


async def test_a_port_that_says_nothing_is_left() -> None:
    async with AmiServer(banner="") as server, linked(server) as (_, heard):
        await heard.until_told("ami_lost")

        assert heard.lines[0][1]["reason"] == "no Asterisk greeted in time"
        assert server.actions == []


@pytest.mark.parametrize("banner", ["SSH-2.0-OpenSSH_9.2\r\n", "\r\n", "\x00\x01\x02\n", "A" * 10_000])
async def test_a_port_that_is_no_asterisk_gets_nothing_from_us(banner: str) -> None:
    async with AmiServer(banner=banner) as server, linked(server) as (_, heard):
        await heard.until_told("ami_lost", times=2)

        assert server.actions == []


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param("X" * 10_000, id="a line without an end"),
        pytest.param("A: b\r\n" * 300, id="a message without an end"),
        pytest.param(f"A: {'b' * 8000}\r\n" * 10, id="a message of great length"),
    ],
)
async def test_what_never_ends_is_cut_off_and_the_link_made_anew(garbage: str) -> None:
    async with AmiServer() as server, linked(server) as (link, heard):
        await heard.until_event(LINK_UP)
        server.send(garbage)
        await heard.until_event(LINK_UP, times=2)

        assert link.connected
        assert "more than" in str(dict(heard.lines)["ami_lost"]["reason"])


async def test_lines_that_are_neither_event_nor_response_are_passed_over() -> None:
    async with AmiServer() as server, linked(server) as (link, heard):
        await heard.until_event(RESYNCHRONISED)

        server.send(
            "no colon at all\r\n\r\n", "\r\n\r\n", "Foo: bar\r\n\r\n", "Response: Success\r\n\r\n", event("Hangup")
        )
        await heard.until_event("Hangup")

        assert heard.names()[-2:] == [RESYNCHRONISED, "Hangup"]
        assert link.connected


async def test_who_takes_events_and_raises_does_not_kill_the_link() -> None:
    taken = Heard()

    def take(heard: AmiEvent) -> None:
        taken.take(heard)
        if heard.name == "Newchannel":
            raise RuntimeError("a fault of ours")

    async with AmiServer() as server, linked(server, on_event=take) as (link, heard):
        await taken.until_event(RESYNCHRONISED)
        server.send(event("Newchannel"), event("Hangup"))
        await taken.until_event("Hangup")

        assert (await link.send("Ping"))[0].name == "Success"
        assert taken.names()[-2:] == ["Newchannel", "Hangup"]
        assert "ami_event_failed" in heard.told()


async def test_more_events_than_are_taken_cost_the_oldest_and_are_counted() -> None:
    limits = AmiLimits(events_max=10)
    async with AmiServer() as server, linked(server, limits) as (link, heard):
        await heard.until_event(RESYNCHRONISED)

        server.send("".join(event("Newchannel", Uniqueid=f"1.{number}") for number in range(500)))
        server.send(event("Hangup"))
        await heard.until_event("Hangup")

        kept = [each["Uniqueid"] for each in heard.events if each.name == "Newchannel"]
        assert link.events_dropped == 500 - len(kept) > 0
        assert kept[-1] == "1.499"
        assert "ami_events_dropped" in heard.told()


@pytest.mark.parametrize("value", ["1\r\nAction: Originate", "1\nVariable: x", "1\r", "\0"])
async def test_a_line_end_in_a_value_is_refused_before_anything_is_sent(value: str) -> None:
    async with AmiServer() as server, linked(server) as (link, heard):
        await heard.until_event(RESYNCHRONISED)
        actions = len(server.actions)

        with pytest.raises(ValueError, match="nothing was sent"):
            await link.send("Getvar", {"Variable": value})
        with pytest.raises(ValueError, match="nothing was sent"):
            await link.send("Getvar", {value: "x"})
        with pytest.raises(ValueError, match="nothing was sent"):
            await link.send(value)

        await link.send("Ping")
        assert len(server.actions) == actions + 1


def test_a_user_name_of_two_lines_is_refused() -> None:
    with pytest.raises(ValueError, match="one line"):
        AmiLink("127.0.0.1", 1, "mensa\r\nAction: Logoff", SECRET, Heard().take, Heard())


async def test_an_action_without_an_answer_is_lost_and_never_sent_again() -> None:
    async with AmiServer() as server, linked(server) as (link, heard):
        server.answers -= {"originate"}
        server.respond = lambda action: "" if action["action"] == "Originate" else None
        await heard.until_event(RESYNCHRONISED)

        asked = asyncio.create_task(link.send("Originate", {"Channel": "PJSIP/x"}))
        async with asyncio.timeout(HANGS_S):
            await server.until(lambda: "originate" in server.names())
        server.close_clients()
        with pytest.raises(AmiLinkLost, match="not sent again"):
            await asked
        await heard.until_event(RESYNCHRONISED, times=2)
        await link.send("Ping")

        assert server.names().count("originate") == 1


async def test_an_originate_never_blocks_the_link_for_a_phone_that_rings() -> None:
    def queue(action: dict[str, str]) -> str | None:
        if action["action"] != "Originate":
            return None
        return (
            f"Response: Success\r\nActionID: {action['actionid']}\r\nMessage: Originate successfully queued\r\n\r\n"
            + event("OriginateResponse", ActionID=action["actionid"], Response="Success")
        )

    async with AmiServer(respond=queue) as server, linked(server) as (link, heard):
        await heard.until_event(RESYNCHRONISED)

        answer = await link.send("Originate", {"Channel": "PJSIP/x"})

        assert server.actions[-1]["async"] == "true"
        assert [each.name for each in answer] == ["Success", "OriginateResponse"]
        assert link.connected


async def test_an_answer_that_panoramisk_trips_over_is_the_askers_affair() -> None:
    def trip(action: dict[str, str]) -> str | None:
        if action["action"] != "Status":
            return None
        # panoramisk looks for `Async` in the action then, and raises when there is none.
        return f"Response: Odd\r\nActionID: {action['actionid']}\r\nMessage: x successfully queued\r\n\r\n"

    async with AmiServer(respond=trip) as server, linked(server) as (link, heard):
        await heard.until_event(RESYNCHRONISED)

        with pytest.raises(AmiLinkLost, match="cannot be read"):
            await link.send("Status")

        assert (await link.send("Ping"))[0].name == "Success"
        assert server.connections == 1


async def test_without_a_link_nothing_is_sent_and_that_is_said() -> None:
    link = AmiLink("127.0.0.1", 1, USERNAME, SECRET, Heard().take, Heard())

    with pytest.raises(AmiLinkLost, match="nothing was sent"):
        await link.send("Ping")


async def test_answers_that_come_too_late_are_forgotten() -> None:
    async with AmiServer() as server, linked(server, AmiLimits(answer_s=0.05)) as (link, heard):
        server.respond = lambda action: "" if action["action"] == "Status" else None
        await heard.until_event(RESYNCHRONISED)
        with pytest.raises(AmiLinkLost, match="no answer in time"):
            await link.send("Status")
        late = server.actions[-1]["actionid"]

        server.send(f"Response: Success\r\nActionID: {late}\r\n\r\n", event("Hangup"))
        await heard.until_event("Hangup")

        assert link._manager is not None
        assert link._manager.protocol.responses == {}
        assert link.connected


async def test_closing_while_it_waits_to_connect_again_stops_it() -> None:
    server = AmiServer()
    await server.start()
    await server.stop()
    heard = Heard()
    before = asyncio.all_tasks()
    limits = AmiLimits(retry_first_s=3600, retry_most_s=3600)
    link = AmiLink("127.0.0.1", server.port, USERNAME, SECRET, heard.take, heard, limits)
    running = asyncio.create_task(link.run())
    await heard.until_told("ami_lost")

    link.close()
    async with asyncio.timeout(HANGS_S):
        await running

    assert asyncio.all_tasks() - before == set()


async def test_a_cancelled_link_leaves_no_connection_and_no_task() -> None:
    async with AmiServer() as server:
        heard = Heard()
        before = asyncio.all_tasks()
        link = AmiLink("127.0.0.1", server.port, USERNAME, SECRET, heard.take, heard, QUICK)
        running = asyncio.create_task(link.run())
        await heard.until_event(RESYNCHRONISED)

        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

        assert running.cancelled()
        assert not link.connected
        assert LINK_DOWN in heard.names()
        served = {task for task in asyncio.all_tasks() if "AmiServer" in repr(task)}
        assert asyncio.all_tasks() - before - served == set()


@pytest.mark.parametrize("after_bytes", range(0, 400, 7))
async def test_closing_at_any_moment_of_the_login_leads_to_a_new_one(after_bytes: int) -> None:
    faults: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    broken = 0

    async with AmiServer() as server:

        async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal broken
            there, back = await asyncio.open_connection("127.0.0.1", server.port)
            budget = after_bytes if broken == 0 else 1_000_000
            broken += 1

            async def up() -> None:
                while data := await reader.read(1000):
                    back.write(data)

            async def down() -> None:
                left = budget
                while left > 0 and (data := await there.read(1000)):
                    writer.write(data[:left])
                    left -= len(data)
                writer.close()

            tasks = {asyncio.create_task(up()), asyncio.create_task(down())}
            _, waiting = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in waiting:
                task.cancel()
            back.close()

        relay = await asyncio.start_server(forward, "127.0.0.1", 0)
        heard = Heard()
        port = relay.sockets[0].getsockname()[1]
        link = AmiLink("127.0.0.1", port, USERNAME, SECRET, heard.take, heard, QUICK)
        running = asyncio.create_task(link.run())

        await heard.until(lambda: broken >= 2 and RESYNCHRONISED in heard.names()[heard.names().index(LINK_UP) :])

        link.close()
        await running
        relay.close()
    gc.collect()
    assert faults == []
