"""The FastAGI door: garbage, caps, draining, the door for hangups. Everything goes through real sockets."""

import asyncio
import resource
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from panoramisk.fast_agi import Application, Request

import ivr.agi
from ivr.agi import AgiLimits, AgiLine, HungUpCall, IncomingCall
from ivr.agi_protocol import asked
from ivr.line import prompt
from tests.agi_serving import HOST, Serving, serving
from tests.asterisk_double import AsteriskDouble, Faults, agi_header

REQUEST = "1;k3y;session;7;0;12:cancel:2026-11-24"


async def one_question(line: AgiLine, call: IncomingCall) -> None:
    await line.ask(prompt("menu"))


async def connected(running: Serving) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(HOST, running.port)


async def ends(reader: asyncio.StreamReader) -> bool:
    """Whether the server closes the connection; what it sent before is thrown away."""
    async with asyncio.timeout(5):
        try:
            while await reader.read(65_536):
                pass
        except ConnectionError:
            pass
    return True


async def succeeds(running: Serving) -> bool:
    """Whether a call that comes now is served."""
    asterisk = AsteriskDouble(["1"])
    await asterisk.call(HOST, running.port)
    return asterisk.variables.get("IVR_ENDED") == "1" and asterisk.violations == []


@asynccontextmanager
async def in_mid_call(running: Serving, held: "HeldCalls", calls: int = 1) -> AsyncIterator[list[AsteriskDouble]]:
    """Calls that wait in the middle until the block ends, and then go on to their end."""
    callers = [AsteriskDouble(["1", "1"]) for _ in range(calls)]
    async with asyncio.TaskGroup() as tasks:
        for number, asterisk in enumerate(callers):
            tasks.create_task(asterisk.call(HOST, running.port, uniqueid=f"1763917800.{number}"))
        await held.arrived(calls)
        yield callers
        held.go_on.set()


class HeldCalls:
    """A flow of two questions that waits between them."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.one_more = asyncio.Condition()
        self.waiting = 0
        self.completed = 0

    async def on_line(self, line: AgiLine, call: IncomingCall) -> None:
        await line.ask(prompt("menu"))
        async with self.one_more:
            self.waiting += 1
            self.one_more.notify_all()
        await self.go_on.wait()
        await line.ask(prompt("confirm"))
        await line.before_saving()
        await line.saved(["4712"])
        self.completed += 1

    async def arrived(self, calls: int) -> None:
        async with asyncio.timeout(20), self.one_more:
            await self.one_more.wait_for(lambda: self.waiting >= calls)


class TestPanoramisk:
    def test_it_owns_the_sockets_and_its_faults_are_overridden(self) -> None:
        assert issubclass(ivr.agi._Application, Application)
        assert ivr.agi._Application.handler is not Application.handler
        assert issubclass(ivr.agi._Request, Request)
        assert ivr.agi._Request.send_command is not Request.send_command
        assert ivr.agi._Request._read_result is not Request._read_result

    async def test_as_many_files_as_the_system_allows_may_be_open(self) -> None:
        async with serving(one_question):
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

        assert soft == hard


class TestGarbage:
    async def test_a_connection_that_closes_at_once_stops_nothing(self) -> None:
        async with serving(one_question) as running:
            for _ in range(50):
                _, writer = await connected(running)
                writer.close()

            assert await succeeds(running)

    @pytest.mark.parametrize(
        "garbage",
        [
            b"\x00" * 5_000 + b"\n\n",
            bytes(range(256)) * 100,
            b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n\n\n",
            b"HANGUP\nHANGUP\n\n",
            b"\n\n",
            b"agi_request: x\n\n",
            b"agi_request: x\nagi_uniqueid: 1.1\n\n",
            b"agi_request: x\nagi_uniqueid: 1.1\nagi_network_script: nowhere\n\n",
            b"agi_request: x\n" + b"a: b\n" * 200 + b"\n",
            b"agi_request: " + b"x" * 1_048_576,
            b"a: b\n" * 210_000,
        ],
    )
    async def test_what_is_no_header_of_asterisk_is_closed_and_the_next_call_served(self, garbage: bytes) -> None:
        async with serving(one_question) as running:
            reader, writer = await connected(running)
            writer.write(garbage)

            assert await ends(reader)
            assert await succeeds(running)
            assert running.server.sessions == 0
            assert running.endings == ["completed"]
            writer.close()

    async def test_slow_bytes_have_the_time_of_a_whole_header_and_no_more(self) -> None:
        async with serving(one_question, limits=AgiLimits(header_s_max=0.1)) as running:
            reader, writer = await connected(running)

            async def drip() -> None:
                for byte in agi_header():
                    writer.write(bytes([byte]))
                    await asyncio.sleep(0.01)

            dripping = asyncio.create_task(drip())
            assert await ends(reader)
            dripping.cancel()
            writer.close()

            assert running.logged("agi_connections_dropped")[0]["latest_reason"] == "too_slow"

    async def test_a_good_header_with_nobody_behind_it_is_never_a_session(self) -> None:
        async with serving(one_question, limits=AgiLimits(sessions_max=1)) as running:
            silent = [await connected(running) for _ in range(20)]
            for _, writer in silent:
                writer.write(agi_header())

            assert await succeeds(running)
            assert all([await ends(reader) for reader, _ in silent])
            assert len(running.endings) == 1
            for _, writer in silent:
                writer.close()

    async def test_a_hang_up_in_front_of_the_first_reply_ends_the_call_before_it_begins(self) -> None:
        asterisk = AsteriskDouble(faults=Faults(instead={0: b"HANGUP\nHANGUP\n"}, last=0))

        async with serving(one_question) as running:
            await asterisk.call(HOST, running.port)

            assert running.endings == []
            assert await succeeds(running)

    async def test_a_thousand_idle_connections_delay_neither_a_running_call_nor_a_new_one(self) -> None:
        held = HeldCalls()

        async with serving(held.on_line) as running, in_mid_call(running, held) as callers:
            idle = [await connected(running) for _ in range(1_000)]
            held.go_on.set()

            assert await succeeds_twice(running)
            assert running.server.sessions <= 1
            for _, writer in idle:
                writer.close()

        assert callers[0].variables["IVR_ENDED"] == "1"
        assert callers[0].violations == []

    async def test_the_oldest_idle_connection_gives_way_to_a_newer_one(self) -> None:
        async with serving(one_question, limits=AgiLimits(half_open_max=3, header_s_max=60)) as running:
            idle = [await connected(running) for _ in range(5)]
            for _, writer in idle:
                # Half a header, so that each of them has surely been looked at.
                writer.write(b"agi_request: x\n")

            assert await ends(idle[0][0])
            assert await ends(idle[1][0])
            assert await succeeds(running)
            for _, writer in idle:
                writer.close()

    async def test_a_flood_of_garbage_is_told_in_one_line(self) -> None:
        async with serving(one_question) as running:
            for _ in range(200):
                reader, writer = await connected(running)
                writer.write(b"garbage\n\n")
                assert await ends(reader)
                writer.close()

            assert len(running.logged("agi_connections_dropped")) == 1

    async def test_a_latin_1_name_and_a_query_string_are_served_like_any_other_call(self) -> None:
        calls: list[IncomingCall] = []

        async def on_line(line: AgiLine, call: IncomingCall) -> None:
            calls.append(call)
            await line.ask(prompt("menu"))

        asterisk = AsteriskDouble(["1"])
        async with serving(on_line) as running:
            await asterisk.call(HOST, running.port, name="Nicolò".encode("latin-1"), route="line?town=x")

        assert asterisk.variables["IVR_ENDED"] == "1"
        assert calls[0].route == "line"


async def succeeds_twice(running: Serving) -> bool:
    """As `succeeds`, for the flow of `HeldCalls` after it was let go."""
    asterisk = AsteriskDouble(["1", "1"])
    await asterisk.call(HOST, running.port)
    return asterisk.variables.get("IVR_ENDED") == "1"


class TestCaps:
    async def test_a_call_above_the_cap_is_told_so_unanswered_and_the_others_go_on(self) -> None:
        held = HeldCalls()
        refused = AsteriskDouble(["1"])

        async with serving(held.on_line, limits=AgiLimits(sessions_max=2)) as running:
            async with in_mid_call(running, held, calls=2) as callers:
                assert running.server.sessions == 2
                await refused.call(HOST, running.port)
            await running.all_calls_ended()

            assert refused.variables == {"IVR_REFUSED": "full"}
            assert not refused.up
            assert [caller.variables["IVR_SAVED"] for caller in callers] == ["4712", "4712"]
            assert running.logged("call_refused")[0]["reason"] == "full"
            assert await succeeds_twice(running)

    async def test_forty_calls_at_once_are_forty_calls(self) -> None:
        held = HeldCalls()

        async with serving(held.on_line) as running:
            async with in_mid_call(running, held, calls=40) as callers:
                assert running.server.sessions == 40
            await running.all_calls_ended()

        assert held.completed == 40
        assert all(caller.variables["IVR_ENDED"] == "1" and caller.violations == [] for caller in callers)


class TestStopping:
    async def test_draining_ends_the_running_calls_and_takes_no_new_one(self) -> None:
        held = HeldCalls()
        late = AsteriskDouble(["1"])

        async with serving(held.on_line) as running:
            async with in_mid_call(running, held, calls=2) as callers:
                draining = asyncio.create_task(running.server.drain(20))
                await asyncio.sleep(0)
                await late.call(HOST, running.port)
                assert not draining.done()
            await draining

            with pytest.raises(ConnectionRefusedError):
                await AsteriskDouble().call(HOST, running.port)

        assert late.variables == {"IVR_REFUSED": "draining"}
        assert [caller.variables["IVR_SAVED"] for caller in callers] == ["4712", "4712"]

    async def test_draining_comes_back_in_time_when_a_call_does_not_end(self) -> None:
        held = HeldCalls()

        async with serving(held.on_line) as running, in_mid_call(running, held):
            await running.server.drain(0.05)

            assert running.server.sessions == 1

    async def test_closing_lets_what_is_being_stored_be_stored(self) -> None:
        storing, stored = asyncio.Event(), []

        async def on_line(line: AgiLine, call: IncomingCall) -> None:
            await line.ask(prompt("confirm"))
            await line.before_saving()
            storing.set()
            await asyncio.sleep(0.05)
            stored.append("4712")
            await line.saved(stored)
            await line.say(prompt("cancelled"))

        async with serving(on_line) as running:
            call = asyncio.create_task(AsteriskDouble(["1"]).call(HOST, running.port))
            await storing.wait()
            await running.server.close()
            await call

        assert stored == ["4712"]
        assert running.endings == ["hung_up"]

    async def test_closing_cancels_at_last_what_never_ends(self) -> None:
        begun = asyncio.Event()

        async def on_line(line: AgiLine, call: IncomingCall) -> None:
            begun.set()
            await asyncio.Event().wait()

        async with serving(on_line, limits=AgiLimits(close_s=0.05)) as running:
            call = asyncio.create_task(AsteriskDouble().call(HOST, running.port))
            await begun.wait()
            await running.server.close()
            await call

            assert running.server.sessions == 0
            assert running.logged("agi_calls_cancelled") == [{"calls": 1}]

    async def test_a_caller_who_goes_cancels_nothing(self) -> None:
        storing, did = asyncio.Event(), []

        async def on_line(line: AgiLine, call: IncomingCall) -> None:
            await line.ask(prompt("confirm"))
            storing.set()
            await asyncio.sleep(0.05)
            did.append("stored")

        async with serving(on_line) as running:
            call = asyncio.create_task(AsteriskDouble(["1"]).call(HOST, running.port))
            await storing.wait()
            call.cancel()
            await running.all_calls_ended()

        assert did == ["stored"]

    async def test_a_flow_that_never_ends_lets_its_caller_go(self) -> None:
        async def on_line(line: AgiLine, call: IncomingCall) -> None:
            await asyncio.Event().wait()

        limits = AgiLimits(call_s_max=0.03, overdue_s=0.03, close_s=0.05)
        async with serving(on_line, limits=limits) as running:
            await AsteriskDouble().call(HOST, running.port)

            assert running.logged("agi_overdue")


def left(*, keys: str = "1", request_text: str = REQUEST, saved: str | None = None) -> AsteriskDouble:
    """A channel that was hung up in a confirmation."""
    asterisk = AsteriskDouble()
    asterisk.hung_up = True
    asterisk.variables = {
        "IVR_ASKED": asked(REQUEST),
        "IVR_REQUEST": request_text,
        "IVR_KEYS": keys,
        "IVR_DIALLED": "800000100",
    }
    if saved is not None:
        asterisk.variables["IVR_SAVED"] = saved
    return asterisk


class TestTheDoorForHangups:
    async def test_R18_a_confirmation_that_nobody_read_is_completed_and_its_receipt_left(self) -> None:
        asterisk = left()

        async with serving(one_question) as running:
            await asterisk.hangup_handler(HOST, running.port, uniqueid="1763917800.7", dialled="s")

        found = [(call.uniqueid, call.dialled, call.request, call.keys, call.saved) for call in running.hungup]
        assert found == [("1763917800.7", "800000100", REQUEST, "1", "")]
        assert asterisk.variables["IVR_SAVED"] == "4712"
        assert asterisk.commands[-3:] == [
            'SET VARIABLE IVR_SAVED "pending"',
            'SET VARIABLE IVR_SAVED "4712"',
            'SET VARIABLE IVR_ENDED "1"',
        ]

    async def test_R21_the_receipts_of_several_pupils_are_left_together(self) -> None:
        asterisk = left()

        async with serving(one_question) as running:
            running.receipts = ("4712", "0815")
            await asterisk.hangup_handler(HOST, running.port)

        assert asterisk.variables["IVR_SAVED"] == "4712-0815"

    @pytest.mark.parametrize(
        "asterisk",
        [left(keys="2"), left(keys=""), left(keys="11"), left(request_text=REQUEST[:-1]), left(request_text="")],
        ids=["another key", "no key", "more keys", "a request cut short", "no request"],
    )
    async def test_R18_nothing_is_completed_without_its_key_and_its_whole_request(
        self, asterisk: AsteriskDouble
    ) -> None:
        async with serving(one_question) as running:
            await asterisk.call(HOST, running.port, route="hungup")

        assert running.hungup == []
        assert "IVR_SAVED" not in asterisk.variables
        assert asterisk.variables["IVR_ENDED"] == "1"
        assert running.logged("hungup_ended")[0]["ended"] == "not_confirmed"

    @pytest.mark.parametrize(
        ("saved", "receipts", "then"), [("1111", (), "1111"), ("1111", ("4712",), "1111-4712"), ("pending", (), "")]
    )
    async def test_an_earlier_receipt_of_the_call_stays(self, saved: str, receipts: Sequence[str], then: str) -> None:
        asterisk = left(saved=saved)

        async with serving(one_question) as running:
            running.receipts = receipts
            await asterisk.hangup_handler(HOST, running.port)

        assert running.hungup[0].saved == saved
        assert asterisk.variables["IVR_SAVED"] == then

    async def test_it_is_open_when_every_place_for_calls_is_taken(self) -> None:
        held, asterisk = HeldCalls(), left()

        async with (
            serving(held.on_line, limits=AgiLimits(sessions_max=1)) as running,
            in_mid_call(running, held),
        ):
            await asterisk.hangup_handler(HOST, running.port)

        assert asterisk.variables["IVR_SAVED"] == "4712"

    async def test_it_is_open_until_the_last_call_was_drained(self) -> None:
        held, asterisk = HeldCalls(), left()

        async with serving(held.on_line) as running:
            async with in_mid_call(running, held):
                draining = asyncio.create_task(running.server.drain(20))
                await asyncio.sleep(0)
                await asterisk.hangup_handler(HOST, running.port)
            await draining

        assert asterisk.variables["IVR_SAVED"] == "4712"

    async def test_a_fault_in_storing_leaves_that_we_do_not_know_and_another_gateway_may_try(self) -> None:
        asterisk = left()

        async def on_hungup(call: HungUpCall) -> Sequence[str]:
            raise ZeroDivisionError

        async with serving(one_question, on_hungup=on_hungup) as running:
            await asterisk.hangup_handler(HOST, running.port)

        assert asterisk.variables["IVR_SAVED"] == "pending"
        assert "IVR_ENDED" not in asterisk.variables
        assert running.logged("hungup_ended")[0]["ended"] == "failed"

    async def test_slow_storing_lets_the_channel_go_and_is_still_done(self) -> None:
        asterisk, stored = left(), []

        async def on_hungup(call: HungUpCall) -> Sequence[str]:
            await asyncio.sleep(0.1)
            stored.append(call.request_id)
            return ["4712"]

        async with serving(one_question, on_hungup=on_hungup, limits=AgiLimits(hungup_s=0.02)) as running:
            await asterisk.hangup_handler(HOST, running.port)
            assert asterisk.variables["IVR_SAVED"] == "pending"
            await running.server.drain(5)

            assert len(stored) == 1
            assert running.logged("hungup_ended")[0] == {
                "call": "1763917800.1",
                "ended": "stored",
                "late": True,
                "changes": 1,
            }
