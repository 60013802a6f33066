"""`mensa headcount`, and what `mensa people import` closes first."""

import asyncio
import json
import shutil
import sqlite3
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from core.access import Actor
from core.clock import exactly
from core.desk import Bland, Cancel, Request
from core.kitchen import closings_of
from core.window import Channel
from gateway.cli import app
from gateway.files.load import Configuration, load_configuration
from gateway.installation import REHEARSAL, Installation, move_clock, open_installation
from gateway.telephone import TownDesks
from tests.towns import at

CONVERSATIONS = Path(__file__).parents[1] / "conversations"
TUESDAY = date(2026, 11, 24)
CUTOFF = datetime(2026, 11, 24, 8, 30, tzinfo=UTC)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """One town of two schools; its clock is a rehearsal's and stands at a Monday evening."""
    folder = tmp_path / "config"
    shutil.copytree(CONVERSATIONS / "config" / "municipalities" / "chiusura", folder / "municipalities" / "chiusura")
    at_the_installation(folder, lambda house, _: set_clock(house, "2026-11-23 18:30"), makes_database=True)
    mensa(folder, "people", "import", str(folder / "municipalities" / "chiusura" / "people.csv"), "--no-clips")
    return folder


def at_the_installation(
    folder: Path, work: Callable[[Installation, TownDesks], Awaitable[Any]], makes_database: bool = False
) -> None:
    configuration = load_configuration(folder)
    assert isinstance(configuration, Configuration)
    [town] = configuration.municipalities

    async def run() -> None:
        async with open_installation(configuration, purpose=REHEARSAL, makes_database=makes_database) as house:
            await work(house, house.desks_of(town))

    asyncio.run(run())


async def set_clock(house: Installation, wall: str) -> None:
    await move_clock(house.store, at(wall).midpoint - datetime.now(UTC))


async def change(desks: TownDesks, code: str, action: Bland | Cancel) -> None:
    pupil = await desks.pupil(code)
    assert pupil is not None
    actor = Actor(Channel.PORTAL, "session", None, frozenset({pupil.id}))
    await desks.booking.act(actor, [Request(pupil, action, f"request-{code}")], at("2026-11-23 18:31"))


async def bland_and_cancelled(house: Installation, desks: TownDesks) -> None:
    await change(desks, "50004", Bland(TUESDAY))
    await change(desks, "50001", Cancel(TUESDAY))


async def close(house: Installation, desks: TownDesks) -> None:
    for due in closings_of(desks.municipality().town.calendar, TUESDAY):
        await desks.kitchen.close(due, exactly(due.cutoff + timedelta(milliseconds=1500)))


def mensa(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--config", str(config)])


def lines(result: Result) -> list[str]:
    return [" ".join(line.split()) for line in result.stdout.splitlines()]


def test_the_count_so_far_says_when_it_becomes_final(config: Path) -> None:
    at_the_installation(config, bland_and_cancelled)
    at_the_installation(config, lambda house, _: set_clock(house, "2026-11-24 08:00"))

    told = mensa(config, "headcount", "--school", "infanzia")

    assert told.exit_code == 0, told.output
    assert lines(told) == [
        "infanzia, Tue 2026-11-24: 2 meals, so far; final at 09:00",
        "class bland present C meals",
        "Blu 1 1 2",
        "all 1 1 2",
    ]


def test_on_a_day_without_service_the_next_one_is_counted(config: Path) -> None:
    at_the_installation(config, lambda house, _: set_clock(house, "2026-11-26 08:00"))

    told = mensa(config, "headcount", "--school", "infanzia")

    assert lines(told)[0] == "infanzia, Fri 2026-11-27: 2 meals, so far; final at 09:00"


def test_R25_a_closed_day_says_its_order_and_stays_as_it_was_counted(config: Path) -> None:
    at_the_installation(config, bland_and_cancelled)
    at_the_installation(config, close)

    told = mensa(config, "headcount", "--day", "2026-11-24")

    assert told.exit_code == 0, told.output
    first, *_, second, _, _, _ = [line for line in lines(told) if line]
    assert first.startswith(
        "infanzia, Tue 2026-11-24: 2 meals, final since 09:00; order 1, closed 2026-11-24 09:00:01, digest "
    )
    assert second.startswith(
        "primaria, Tue 2026-11-24: 1 meal, final since 09:30; order 2, closed 2026-11-24 09:30:01, digest "
    )


def test_R25_a_closing_that_somebody_has_altered_in_the_database_says_so(config: Path) -> None:
    at_the_installation(config, close)
    [database] = config.parent.rglob("*.db")
    with sqlite3.connect(database) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute("UPDATE closing_counts SET meals = meals + 1")
    connection.close()

    told = mensa(config, "headcount", "--day", "2026-11-24", "--school", "primaria")

    assert "IS NOT THAT OF WHAT IS STORED NOW" in told.stdout


def test_as_json_a_closing_has_all_that_was_counted(config: Path) -> None:
    at_the_installation(config, bland_and_cancelled)
    at_the_installation(config, close)

    told = mensa(config, "headcount", "--day", "2026-11-24", "--json")

    document = json.loads(told.stdout)
    infanzia, primaria = document["schools"]
    assert (document["town"], document["day"]) == ("chiusura", "2026-11-24")
    assert (infanzia["final"], infanzia["meals"], infanzia["kinds"], infanzia["diets"]) == (
        True, 2, {"present": 1, "bland": 1}, {"C": 1},
    )  # fmt: skip
    assert infanzia["counts"] == [
        {"class": "Blu", "kind": "present", "diet": "C", "meals": 1},
        {"class": "Blu", "kind": "bland", "diet": None, "meals": 1},
    ]
    assert (primaria["cutoff"], primaria["classes"]) == (CUTOFF.isoformat(), ["1A"])
    closing = primaria["closing"]
    assert (closing["order"], closing["intact"], len(closing["digest"])) == (2, True, 64)
    assert closing["closed_earliest"] == (CUTOFF + timedelta(milliseconds=1500)).isoformat()


def test_a_day_without_service_says_why_and_the_answer_is_no(config: Path) -> None:
    strike = mensa(config, "headcount", "--school", "infanzia", "--day", "2026-11-26")
    sunday = mensa(config, "headcount", "--day", "2026-11-29")

    assert (strike.exit_code, sunday.exit_code) == (1, 1)
    assert strike.stdout.strip() == "infanzia, Thu 2026-11-26: not served: closed (Sciopero)"
    assert "primaria, Sun 2026-11-29: not served: weekday" in sunday.stdout


def test_an_unknown_school_is_told_what_there_is(config: Path) -> None:
    told = mensa(config, "headcount", "--school", "primria")

    assert told.exit_code == 2
    assert told.stderr.strip() == "--school: chiusura has no school 'primria'; did you mean 'primaria'?"


def test_a_date_that_is_none_is_told_what_is_expected(config: Path) -> None:
    told = mensa(config, "headcount", "--day", "24.11.2026")

    assert told.exit_code == 2
    assert told.stderr.strip() == "--day: '24.11.2026' is no date; expected one such as 2026-11-24"


# The people's file


def test_R25_an_import_after_the_cutoff_leaves_the_day_to_those_who_were_on_the_roll(config: Path) -> None:
    at_the_installation(config, lambda house, _: set_clock(house, "2026-11-24 11:00"))
    file = config / "municipalities" / "chiusura" / "people.csv"
    kept = [row for row in file.read_text(encoding="utf-8").splitlines() if not row.startswith("50001")]
    newcomers = [f"5100{number},Nuova,Prova,primaria,1A,,,,,,,,," for number in range(3)]
    file.write_text("\n".join([*kept, *newcomers]) + "\n", encoding="utf-8")

    imported = mensa(config, "people", "import", str(file), "--no-clips")
    today = mensa(config, "headcount", "--school", "primaria", "--day", "2026-11-24")
    tomorrow = mensa(config, "headcount", "--school", "primaria", "--day", "2026-11-25")

    assert imported.exit_code == 0, imported.output
    assert (
        "primaria 2026-11-24: closed before anything was taken in, as of its cutoff: order 2, meals: 2"
        in imported.stderr
    )
    assert "2 meals, final since 09:30; order 2" in today.stdout
    assert "5 meals, so far; final at 09:30" in tomorrow.stdout


def test_a_towns_first_import_closes_nothing_that_was_before_it(config: Path) -> None:
    at_the_installation(config, lambda house, _: set_clock(house, "2026-11-24 11:00"))

    today = mensa(config, "headcount", "--school", "primaria", "--day", "2026-11-24")
    monday = mensa(config, "headcount", "--school", "primaria", "--day", "2026-11-23")
    file = config / "municipalities" / "chiusura" / "people.csv"
    imported = mensa(config, "people", "import", str(file), "--no-clips")

    assert "so far; its cutoff, 09:30, has passed: not closed yet" in today.stdout
    assert "so far; its cutoff, 09:30, has passed: not closed yet" in monday.stdout
    # The town came into being on Monday evening: Monday is nobody's to close.
    assert [line.split(":")[0] for line in imported.stderr.splitlines() if "closed before" in line] == [
        "infanzia 2026-11-24",
        "primaria 2026-11-24",
    ]


# The calendar's edits


def test_R24_an_edit_of_a_closed_day_is_told_to_change_nothing_of_it(config: Path, tmp_path: Path) -> None:
    at_the_installation(config, close)
    edited = tmp_path / "copy" / "chiusura"
    shutil.copytree(config / "municipalities" / "chiusura", edited)
    with (edited / "calendar.yaml").open("a", encoding="utf-8") as calendar:
        calendar.write("  - {closed: 2026-11-24..2026-11-25, why: Neve, school: primaria}\n")
        calendar.write('cutoffs:\n  - {date: 2026-11-24, at: "10:00", why: Neve, school: infanzia}\n')

    told = mensa(config, "calendar", "diff", str(edited))
    document = json.loads(mensa(config, "calendar", "diff", str(edited), "--json").stdout)

    assert told.exit_code == 0, told.output
    assert [line for line in told.stdout.splitlines() if "already closed" in line] == [
        "infanzia: already closed and staying as counted, whatever the edit says: 1 day: Tue 2026-11-24",
        "primaria: already closed and staying as counted, whatever the edit says: 1 day: Tue 2026-11-24",
    ]
    assert document["already_closed"] == [
        {"school": "infanzia", "dates": ["2026-11-24"]},
        {"school": "primaria", "dates": ["2026-11-24"]},
    ]
