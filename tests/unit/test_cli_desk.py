"""`mensa presence` and `mensa change`: an operator at the desk."""

import asyncio
import json
import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from core.clock import exactly
from core.people import People, Pupil
from core.ports import Entries, Refusal
from core.window import Channel
from gateway.cli import app
from gateway.files.load import Configuration, load_configuration
from gateway.files.people import read_people
from gateway.installation import open_installation

HOUSE = Path(__file__).parents[2]
CODE, OTHER = "50001", "50002"
TUESDAY = date(2026, 11, 24)
# By Rome's clock this is ten to one in the night of the Tuesday.
NIGHT = datetime(2026, 11, 23, 23, 50, tzinfo=UTC)


def refusal(pupil: Pupil, action: str, day: date | None, outcome: str, at: datetime) -> Refusal:
    reading = exactly(at, bound=timedelta(milliseconds=40), source="test")
    return Refusal(pupil.id, action, day, outcome, f"{action} {day}", Channel.PHONE, None, "1795454400.7", reading)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The example town with refusals: of the Tuesday, of a day outside the week, of no day, and of another pupil."""
    folder = tmp_path / "config"
    shutil.copytree(HOUSE / "config", folder)
    configuration = load_configuration(folder)
    assert isinstance(configuration, Configuration)

    async def fill() -> None:
        async with open_installation(configuration, makes_database=True) as house:
            [town] = configuration.municipalities
            assert town.people_file is not None
            people = read_people(town.people_file, town)
            assert isinstance(people, People)
            store = house.store.at(town.key)
            await store.import_people(people, house.hasher, lambda: "4711")
            desks = house.desks_of(town)
            mine, another = await desks.pupil(CODE), await desks.pupil(OTHER)
            assert mine is not None
            assert another is not None
            kept = (
                refusal(mine, "cancel", TUESDAY, "too_late", NIGHT),
                refusal(mine, "bland", date(2026, 12, 15), "too_far", NIGHT),
                refusal(mine, "undo", None, "outside_window", NIGHT),
                refusal(mine, "undo", None, "outside_window", NIGHT - timedelta(hours=1)),
                refusal(another, "cancel", TUESDAY, "no_service", NIGHT),
            )
            await store.transact((), lambda _: (Entries(refusals=kept), None))

    asyncio.run(fill())
    return folder


def presence(config: Path, *options: str) -> Result:
    week = ("--from", "2026-11-24", "--to", "2026-11-27")
    return CliRunner().invoke(app, ["presence", CODE, *week, "--config", str(config), *options])


def test_R26_presence_shows_the_refusals_of_the_days_asked_for(config: Path) -> None:
    shown = presence(config)

    assert shown.exit_code == 0, shown.output
    refusals = shown.stdout.partition("refused")[2]
    lines = [" ".join(line.split()) for line in refusals.splitlines()[1:]]
    assert lines == [
        "2026-11-24 00:50:00 cancel 2026-11-24 too_late phone",
        "2026-11-24 00:50:00 undo outside_window phone",
    ]


def test_R26_refusals_as_json_hold_the_clocks_bound_and_the_call(config: Path) -> None:
    shown = presence(config, "--json")

    first, second = json.loads(shown.stdout)["refusals"]
    assert (first["action"], first["day"], first["outcome"], first["channel"]) == (
        "cancel", "2026-11-24", "too_late", "phone",
    )  # fmt: skip
    earliest, latest = (datetime.fromisoformat(first[f"decided_{end}"]) for end in ("earliest", "latest"))
    assert (earliest, latest) == (NIGHT - timedelta(milliseconds=40), NIGHT + timedelta(milliseconds=40))
    assert first["session"] == "1795454400.7"
    assert (second["action"], second["day"]) == ("undo", None)


def test_where_nothing_was_refused_there_is_no_second_table(config: Path) -> None:
    arguments = ["presence", CODE, "--from", "2027-01-11", "--to", "2027-01-12", "--config", str(config)]

    shown = CliRunner().invoke(app, arguments)

    assert len(shown.stdout.splitlines()) == 3
