"""`mensa calls` over the database of another process."""

import asyncio
import json
import shutil
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.cli_calls import calls_app
from gateway.files.load import Configuration, load_configuration
from gateway.installation import open_installation
from gateway.store.port import NewCallEvent

HOUSE = Path(__file__).resolve().parents[2]
CALLER = "+390350000101"
MASKED = "+3903******01"
# A Python that starts on a loaded machine, and then some.
FOLLOWING_S = 60


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The example town with a call log: one call that cancelled, one too late, one in which the gateway died."""
    folder = tmp_path / "config"
    shutil.copytree(HOUSE / "config", folder)
    configuration = load_configuration(folder)
    assert isinstance(configuration, Configuration)
    began = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=30)

    async def fill() -> None:
        async with open_installation(configuration, makes_database=True) as house:
            digest = house.hasher.digest(f"caller:{CALLER}")

            def event(call: str, second: float, word: str, **fields: str | int) -> NewCallEvent:
                number, of = (MASKED, digest) if call == "1.1" else ("withheld", None)
                return NewCallEvent(call, began + timedelta(seconds=second), word, "roccachiara", number, of, fields)

            await house.store.add_call_events(
                [
                    event("1.1", 0, "taken", node="one", language="it"),
                    event("1.1", 0.5, "answered"),
                    event("1.1", 9, "asked", heard="state offer-cancel", key="1"),
                    event("1.1", 15, "outcome", outcome="cancelled", receipt="4712"),
                    event("1.1", 20, "finished", outcome="cancelled"),
                    event("1.1", 20.5, "hung_up", cause=16, cause_text="Normal Clearing"),
                    event("1.2", 60, "taken", node="one"),
                    event("1.2", 70, "outcome", outcome="too_late"),
                    event("1.2", 75, "finished", outcome="too_late"),
                    event("1.3", 90, "taken", node="one"),
                    event("1.3", 99, "last_words", started="1", fallback="fallback-nothing-changed"),
                ]
            )

    asyncio.run(fill())
    return folder


def calls(config: Path, *arguments: str) -> Result:
    command, *rest = arguments
    return CliRunner().invoke(calls_app, [command, "--config", str(config), *rest])


def test_each_call_is_one_unwrapped_line_that_can_be_read_without_colour(config: Path) -> None:
    shown = calls(config, "tail")

    assert shown.exit_code == 0
    first, second, third = shown.stdout.splitlines()
    assert "\x1b" not in shown.stdout
    for word in ("roccachiara", MASKED, "cancelled", "4712", "20 s", "1.1"):
        assert word in first
    assert "too_late" in second
    for word in ("withheld", "failed", "gateway died", "fallback-nothing-changed"):
        assert word in third


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (("--outcome", "too_late"), ["1.2"]),
        (("--number", CALLER), ["1.1"]),
        (("--number", "0350000101"), ["1.1"]),
        (("--number", "+390350000999"), []),
        (("--town", "roccachiara"), ["1.1", "1.2", "1.3"]),
        (("--since", "1m"), []),
        (("--since", "2h", "--outcome", "failed"), ["1.3"]),
    ],
)
def test_calls_are_chosen_by_what_a_clerk_knows(config: Path, arguments: tuple[str, ...], found: list[str]) -> None:
    shown = calls(config, "tail", "--json", *arguments)

    assert shown.exit_code == 0
    assert [record["call"] for record in json.loads(shown.stdout)] == found


def test_json_is_one_document_of_records_without_a_whole_number(config: Path) -> None:
    shown = calls(config, "tail", "--json")

    first, *others = json.loads(shown.stdout)
    assert len(others) == 2
    assert first["kind"] == "call"
    assert (first["outcome"], first["receipts"], first["number"], first["steps"]) == ("cancelled", ["4712"], MASKED, 1)
    assert datetime.fromisoformat(first["started"]).tzinfo is not None
    assert CALLER not in shown.stdout


def test_no_such_calls_is_said_where_a_script_does_not_trip_over_it(config: Path) -> None:
    shown = calls(config, "tail", "--outcome", "resumed")

    assert (shown.exit_code, shown.stdout) == (0, "")
    assert "no such calls since" in shown.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--outcome", "canceled"), "--outcome: 'canceled' is no outcome; did you mean 'cancelled'?"),
        (("--number", "anna"), "--number: that is no telephone number; expected one as +390350000101 or 0350000101"),
        (("--since", "later"), "--since: 'later'; expected 08:30, 2026-11-23, 2026-11-23T08:30, 30m, 2h or 3d"),
        (("--town", "rocachiara"), "did you mean 'roccachiara'?"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(config: Path, arguments: tuple[str, ...], message: str) -> None:
    shown = calls(config, "tail", *arguments)

    assert shown.exit_code == 2
    assert message in shown.stderr
    assert len(shown.stderr.splitlines()) == 1


def test_one_call_is_shown_step_by_step_with_the_time_since_it_began(config: Path) -> None:
    shown = calls(config, "show", "1.1")

    assert shown.exit_code == 0
    steps = [" ".join(line.split()) for line in shown.stdout.partition("\n\n")[2].splitlines()]
    assert steps == [
        "+0.0 s taken language=it node=one",
        "+0.5 s answered",
        "+9.0 s asked heard=state offer-cancel key=1",
        "+15.0 s outcome outcome=cancelled receipt=4712",
        "+20.0 s finished outcome=cancelled",
        "+20.5 s hung_up cause=16 cause_text=Normal Clearing",
    ]
    assert "16 Normal Clearing" in shown.stdout.partition("\n\n")[0]


def test_one_call_as_json_is_one_document(config: Path) -> None:
    shown = calls(config, "show", "1.3", "--json")

    document = json.loads(shown.stdout)
    assert document["call"]["gateway_died"] is True
    assert document["events"][-1]["fields"]["fallback"] == "fallback-nothing-changed"


def test_a_call_that_is_not_in_the_log_is_a_no(config: Path) -> None:
    shown = calls(config, "show", "9.9")

    assert shown.exit_code == 1
    assert "no call '9.9' is in the log" in shown.stderr


def test_without_a_database_that_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "config"
    shutil.copytree(HOUSE / "config", folder)

    shown = calls(folder, "tail")

    assert shown.exit_code == 2
    assert "there is no database yet" in shown.stderr


async def test_who_follows_reads_one_json_object_a_line_as_calls_happen(config: Path) -> None:
    command = (sys.executable, "-m", "gateway.cli", "calls", "tail", "--follow", "--json", "--config", str(config))
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, cwd=HOUSE)
    assert process.stdout is not None

    async with asyncio.timeout(FOLLOWING_S):
        lines = [json.loads(await process.stdout.readline()) for _ in range(3)]
    process.send_signal(signal.SIGINT)

    assert [line["call"] for line in lines] == ["1.1", "1.2", "1.3"]
    assert await process.wait() == 0
