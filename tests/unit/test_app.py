"""The gateway at its start: what it says before it takes a call."""

import asyncio
import shutil
from pathlib import Path
from typing import cast

import pytest
from structlog.testing import capture_logs

from core.people import People
from gateway.app import Hallway, Log
from gateway.clips import read_clips
from gateway.files.load import Configuration, load_configuration
from gateway.files.people import read_people
from gateway.files.phrases import phrases_folder, read_catalogues
from gateway.installation import open_installation
from gateway.logs import get_log

HOUSE = Path(__file__).parents[2]
# One town is looked over in milliseconds; a machine with much else to do gets twenty seconds.
LOOKED_OVER_WITHIN_S = 20


def loaded(folder: Path) -> Configuration:
    configuration = load_configuration(folder)
    assert isinstance(configuration, Configuration)
    return configuration


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in {"AGI__PORT": "0", "WEB__PORT": "0", "AMI__ENABLED": "false"}.items():
        monkeypatch.setenv(f"MENSA_{name}", value)
    shutil.copytree(HOUSE / "config", tmp_path / "config")
    return tmp_path / "config"


async def told_at_start(configuration: Configuration) -> list[dict[str, object]]:
    stop = asyncio.Event()
    async with open_installation(configuration, makes_database=True) as house:
        clips = read_clips(phrases_folder(), read_catalogues(phrases_folder()))
        with capture_logs() as told:
            running = asyncio.create_task(Hallway(house, clips, cast(Log, get_log())).run(stop))
            async with asyncio.timeout(LOOKED_OVER_WITHIN_S):
                # The log is only a list, which wakes nobody.
                while "towns_looked_over" not in [each["event"] for each in told] and not running.done():  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            stop.set()
            await running
    return [dict(each) for each in told]


async def test_R2_pupils_whose_class_group_is_gone_are_counted_once_a_town(folder: Path) -> None:
    configuration = loaded(folder)
    [town] = configuration.municipalities
    assert town.people_file is not None
    people = read_people(town.people_file, town)
    assert isinstance(people, People)
    in_2a = [pupil for pupil in people.pupils if (pupil.school, pupil.class_group) == ("primaria", "2A")]
    async with open_installation(configuration, makes_database=True) as house:
        await house.store.at(town.key).import_people(people, house.hasher, lambda: "4711")

    before = await told_at_start(configuration)
    schools = folder / "municipalities" / town.key / "schools.yaml"
    schools.write_text(schools.read_text().replace("      2A: [mon, tue, wed, thu, fri]\n", ""))
    after = await told_at_start(loaded(folder))

    assert "pupils_without_class_group" not in [each["event"] for each in before]
    [warning] = [each for each in after if each["event"] == "pupils_without_class_group"]
    assert (warning["log_level"], warning["town"], warning["pupils"]) == ("warning", town.key, len(in_2a))
    assert in_2a
