"""The published schemas are those of the code, and the example configuration is right by them and by the loader."""

import json
from datetime import date
from pathlib import Path

import jsonschema
import pytest
from ruamel.yaml import YAML

from core.people import People
from gateway.files.load import Configuration, check_folder, load_configuration
from gateway.files.people import read_people
from gateway.files.schema import FOLDER, MODELS, json_schema
from gateway.municipality import Municipality

CONFIG = FOLDER.parent
EXAMPLE = CONFIG / "municipalities" / "roccachiara"
FILES = [CONFIG / "gateway.yaml", *sorted(EXAMPLE.glob("*.yaml"))]


def instance(text: str) -> object:
    """What an editor's YAML server makes of a file: YAML 1.2, in which a date is text."""
    return json.loads(json.dumps(YAML(typ="safe", pure=True).load(text), default=str))


@pytest.fixture
def roccachiara() -> Municipality:
    configuration = load_configuration(CONFIG)
    assert isinstance(configuration, Configuration)
    town = configuration.municipalities.named("roccachiara")
    assert town is not None
    return town


@pytest.mark.parametrize("name", MODELS)
def test_the_published_schema_is_what_the_code_makes(name: str) -> None:
    published = (FOLDER / f"{name}.json").read_text(encoding="utf-8")

    assert published == json_schema(name), "run: python -m gateway.files.schema"
    jsonschema.Draft202012Validator.check_schema(json.loads(published))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_each_example_names_its_schema_and_is_right_by_it(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    first, _ = text.split("\n", 1)
    schema = (file.parent / first.removeprefix("# yaml-language-server: $schema=")).resolve()

    assert schema == FOLDER / f"{file.stem}.json"
    jsonschema.validate(instance(text) or {}, json.loads(schema.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("municipality", "name: Borgo\nnumbers: ['800000100']\n"),
        ("municipality", "name: Borgo\nnumbers: ['800000100']\nuser_code_digits: 5\nwindows: {phone: never}\n"),
        ("schools", "schools: {primaria: {name: Primaria, cutoff: '9:3', classes: {1A: [mon]}}}\n"),
        ("schools", "schools: {primaria: {name: Primaria, cutoff: '9:30', classes: {1A: [lun]}}}\n"),
        ("calendar", "service: 2026-09-14\n"),
        ("calendar", "service: 2026-09-14..2027-06-08\nexception: []\n"),
        ("gateway", "agi: {prt: 1}\n"),
    ],
)
def test_an_editor_sees_what_the_loader_would_refuse(name: str, text: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(instance(text), json.loads(json_schema(name)))


def test_the_example_configuration_has_no_mistakes() -> None:
    assert check_folder(CONFIG) == ()


def test_the_example_town_has_three_schools_and_about_forty_pupils(roccachiara: Municipality) -> None:
    assert roccachiara.people_file is not None
    people = read_people(roccachiara.people_file, roccachiara)

    assert isinstance(people, People)
    assert len(roccachiara.town.calendar.schools) == 3
    assert 38 <= len(people.pupils) <= 45
    assert {pupil.class_group for pupil in people.pupils} == {name for _, name in roccachiara.town.calendar.classes}
    assert any(pupil.diet for pupil in people.pupils)
    anna = next(pupil for pupil in people.pupils if pupil.user_code == "50004")
    guardian = people.guardians[anna.guardians[0]]
    assert (anna.name, anna.school, guardian.phone, guardian.recognise, guardian.pin) == (
        "Anna",
        "primaria",
        "+390350000101",
        True,
        "4321",
    )
    assert [pupil.user_code for pupil in people.pupils if anna.guardians[0] in pupil.guardians] == ["50004"]


def test_the_days_of_the_worked_examples_are_ordinary_days_of_the_example_town(roccachiara: Municipality) -> None:
    calendar = roccachiara.town.calendar
    group = calendar.classes["primaria", "1A"]
    november = [date(2026, 11, day) for day in (23, 24, 25, 26, 27, 30)]

    assert all(calendar.is_served(group, day) for day in (*november, date(2026, 12, 18), date(2027, 3, 30)))
    assert {calendar.cutoff_time("primaria", day).isoformat() for day in november} == {"09:30:00"}
    assert calendar.first_useful_day(group, date(2026, 12, 8)) == date(2026, 12, 9)
    assert calendar.first_useful_day(group, date(2027, 3, 28)) == date(2027, 3, 30)
