"""`mensa calendar` and `mensa people` as a clerk uses them: lines with places, exit codes, JSON."""

import asyncio
import csv
import json
import stat
from datetime import date
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from core.access import Actor
from core.calendar import ServiceCalendar
from core.clock import exactly
from core.desk import Action, Cancel, Request, Resume, Suspend
from core.people import UserCode
from core.window import Channel
from gateway.calendar_diff import diff
from gateway.cli_calendar import calendar_app
from gateway.cli_people import make_pin, people_app
from gateway.files.load import Configuration, load_configuration
from gateway.installation import open_installation
from tests.town_files import CALENDAR, SCHOOLS, loaded, write_town
from tests.towns import local

HEADER = "user_code,pupil_name,school,class,guardian_name,guardian_phone,pin\n"
PEOPLE = (
    HEADER
    + "50001,Anna,primaria,1A,Laura,0350000101,4321\n"
    + "50002,Marco,primaria,3B,Paolo,0350000102,\n"
    + "50003,Sofia,infanzia,Girasoli,Paolo,0350000102,\n"
)
EDITED = CALENDAR.replace(
    "cutoffs:", "  - {closed: 2026-11-23..2026-11-24, why: Seggio, school: primaria}\ncutoffs:"
).replace('"08:30"', '"08:00"')

app = typer.Typer()
app.add_typer(calendar_app, name="calendar")
app.add_typer(people_app, name="people")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MENSA_DATABASE__URL", "MENSA_SECRETS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration folder with one town; what is made at run time comes to stand beside it."""
    write_town(tmp_path / "config" / "municipalities" / "borgo")
    return tmp_path / "config"


def mensa(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def test_check_says_nothing_is_wrong_with_exit_code_0(config: Path) -> None:
    result = mensa("calendar", "check", config)

    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == f"{config}: no mistakes\n"


def test_check_prints_every_mistake_as_one_line_with_its_place(config: Path) -> None:
    town = config / "municipalities" / "borgo"
    (town / "calendar.yaml").write_text(CALENDAR + "patrno: 2026-11-11\n")
    (town / "people.csv").write_text(PEOPLE.replace("1A", "1Z"))

    for result in (mensa("calendar", "check", town), mensa("calendar", "check", "--config", config)):
        assert result.exit_code == 1
        assert result.stdout.splitlines() == [
            f"{town}/calendar.yaml:9:1: unknown key 'patrno'; did you mean 'patron'?",
            f"{town}/people.csv:2:21: class: school 'primaria' has no class '1Z'; expected one of 1A, 3B",
        ]


def test_check_as_json_is_one_document(config: Path) -> None:
    (config / "gateway.yaml").write_text("agi: {prt: 1}\n")

    result = mensa("calendar", "check", config, "--json")

    assert result.exit_code == 1
    assert json.loads(result.stdout) == {
        "folder": str(config),
        "ok": False,
        "mistakes": [
            {
                "file": f"{config}/gateway.yaml",
                "line": 1,
                "column": 7,
                "message": "unknown key 'prt'; did you mean 'port'?",
            }
        ],
    }


def test_check_of_a_folder_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    assert mensa("calendar", "check", tmp_path / "nowhere").exit_code == 2


def test_show_draws_a_month_that_can_be_read_without_colour(config: Path) -> None:
    result = mensa("calendar", "show", "--config", config, "--class", "primaria/3B", "--month", "2026-11")

    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    assert "Comune di Borgo, Scuola primaria, class 3B, 2026-11" in result.stdout
    for words in ("served until", "closed: Gita", "patron saint", "Ognissanti"):
        assert words in result.stdout


def test_show_says_the_cutoff_of_the_day_and_why(config: Path) -> None:
    result = mensa("calendar", "show", "--config", config, "--class", "primaria/1A", "--month", "2026-11")

    assert "08:30" in result.stdout
    assert "Sciopero" in result.stdout


def test_show_as_json_has_every_day_of_the_month(config: Path) -> None:
    result = mensa("calendar", "show", "--config", config, "--class", "primaria/1A", "--month", "2026-11", "--json")

    document = json.loads(result.stdout)
    days = {each["date"]: each for each in document["days"]}
    assert (document["town"], document["school"], document["class"]) == ("borgo", "primaria", "1A")
    assert len(days) == 30
    assert days["2026-11-27"] == {
        "date": "2026-11-27",
        "served": True,
        "service": "served",
        "why": "",
        "cutoff": "08:30",
    }
    assert days["2026-11-28"]["service"] == "weekday"
    assert days["2026-11-28"]["cutoff"] is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--class", "primaria/1B", "--month", "2026-11"), "did you mean 'primaria/3B'?"),
        (
            ("--class", "primaria/1A", "--month", "novembre"),
            "'novembre' is no month; expected year and month as 2026-11",
        ),
        (("--class", "primaria/1A", "--month", "2026-11", "--town", "brgo"), "no town 'brgo'; did you mean 'borgo'?"),
    ],
)
def test_show_says_what_would_be_right(config: Path, words: tuple[str, ...], message: str) -> None:
    result = mensa("calendar", "show", "--config", config, *words)

    assert result.exit_code == 2
    assert message in result.stderr


def test_with_several_towns_one_has_to_be_named(config: Path) -> None:
    other = config / "municipalities" / "rocca"
    write_town(other, municipality='name: Rocca\nnumbers: ["800000100"]\nuser_code_digits: 5\n')
    words = ("calendar", "show", "--config", config, "--class", "primaria/1A", "--month", "2026-11")

    assert mensa(*words, "--town", "rocca").exit_code == 0
    result = mensa(*words)
    assert result.exit_code == 2
    assert "name one with --town: borgo, rocca" in result.stderr


def test_diff_says_which_days_open_and_close_and_which_cutoffs_move(config: Path, tmp_path: Path) -> None:
    write_town(tmp_path / "copy", calendar=EDITED)

    result = mensa("calendar", "diff", tmp_path / "copy", "--config", config)

    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "primaria/1A closes 2 days: Mon 2026-11-23..Tue 2026-11-24",
        "primaria/3B closes 1 day: Mon 2026-11-23",
        "primaria: cutoff 08:00 instead of 08:30 on 1 day: Fri 2026-11-27",
        "no database: standing changes not counted",
    ]


def test_diff_of_an_unchanged_copy_says_so(config: Path, tmp_path: Path) -> None:
    write_town(tmp_path / "copy")

    result = mensa("calendar", "diff", tmp_path / "copy", "--config", config)

    assert result.stdout.splitlines()[0] == "nothing changes: no day opens or closes, no cutoff moves"


def test_diff_of_a_copy_with_mistakes_prints_them(config: Path, tmp_path: Path) -> None:
    write_town(tmp_path / "copy", calendar="service: never\n")

    result = mensa("calendar", "diff", tmp_path / "copy", "--config", config)

    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        f"{tmp_path}/copy/calendar.yaml:1:10: service: 'never' is no day; expected year, month and day as 2026-11-24"
    ]


def test_diff_counts_the_standing_changes_and_pupils_that_an_edit_touches(config: Path, tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text(PEOPLE)
    assert mensa("people", "import", tmp_path / "people.csv", "--config", config, "--no-clips").exit_code == 0
    asyncio.run(change(config, "50001", Cancel(date(2026, 11, 24)), Cancel(date(2026, 11, 26))))
    asyncio.run(change(config, "50002", Suspend(date(2026, 11, 23)), Resume(date(2026, 12, 1))))
    asyncio.run(change(config, "50003", Cancel(date(2026, 11, 24))))
    write_town(tmp_path / "copy", calendar=EDITED)

    result = mensa("calendar", "diff", tmp_path / "copy", "--config", config)
    document = json.loads(mensa("calendar", "diff", tmp_path / "copy", "--config", config, "--json").stdout)

    assert (
        result.stdout.splitlines()[-1] == "2 standing changes of 2 pupils touched; 2 pupils with days opened or closed"
    )
    assert document["touched"] == {"changes": 2, "pupils_with_changes": 2, "pupils": 2}
    assert document["classes"][0]["closed"] == ["2026-11-23", "2026-11-24"]
    assert document["cutoffs"] == [{"school": "primaria", "date": "2026-11-27", "before": "08:30", "after": "08:00"}]


async def change(config: Path, code: str, *actions: Action) -> None:
    configuration = load_configuration(config)
    assert isinstance(configuration, Configuration)
    async with open_installation(configuration) as house:
        [town] = configuration.municipalities
        desk = house.desks_of(town).booking
        pupil = await house.store.at("borgo").pupil(UserCode(code))
        assert pupil is not None
        actor = Actor(Channel.OFFICE, "counter", None, frozenset({pupil.id}))
        for number, action in enumerate(actions):
            request = Request(pupil, action, f"{code}-{number}")
            [outcome] = await desk.act(actor, [request], exactly(local("2026-11-20 12:00")))
            assert outcome.word in ("cancelled", "suspended", "resumed")


def test_a_class_that_comes_or_goes_opens_or_closes_all_its_days(tmp_path: Path) -> None:
    before = service_calendar(tmp_path / "before", SCHOOLS)
    after = service_calendar(tmp_path / "after", SCHOOLS.replace("Girasoli", "Tulipani"))

    gone, come = diff(before, after).classes

    assert (gone.name, gone.opened, len(gone.closed)) == ("Girasoli", (), len(come.opened))
    assert (come.name, come.closed) == ("Tulipani", ())
    assert come.opened[0] == date(2026, 9, 21)


def service_calendar(folder: Path, schools: str) -> ServiceCalendar:
    return loaded(write_town(folder, schools=schools)).town.calendar


def test_import_tells_what_was_added_updated_and_kept(config: Path, tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    file.write_text(PEOPLE)
    first = mensa("people", "import", file, "--config", config, "--no-clips")
    file.write_text(PEOPLE.replace("Marco", "Mario"))
    second = mensa("people", "import", file, "--config", config, "--json", "--no-clips")

    assert first.exit_code == 0
    assert first.stdout.splitlines() == [
        "Comune di Borgo: pupils: 3 added, 0 updated, 0 kept, 0 not in the file and kept too",
        "guardians: 2 added, 0 updated, 0 kept",
    ]
    assert json.loads(second.stdout) == {
        "ok": True,
        "town": "borgo",
        "pupils_added": 0,
        "pupils_updated": 1,
        "pupils_kept": 2,
        "pupils_absent": 0,
        "guardians_added": 0,
        "guardians_updated": 0,
        "guardians_kept": 2,
        "pins_made": 0,
    }


def test_made_pins_stand_in_the_letters_file_and_nowhere_else(config: Path, tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text(PEOPLE)
    letters = tmp_path / "letters.csv"

    result = mensa("people", "import", tmp_path / "people.csv", "--config", config, "--letters", letters, "--no-clips")

    with letters.open(newline="") as stream:
        header, *rows = csv.reader(stream)
    assert header == ["code", "guardian", "PIN"]
    assert [row[:2] for row in rows] == [["50002", "Paolo"], ["50003", "Paolo"]]
    assert rows[0][2] == rows[1][2]
    assert stat.S_IMODE(letters.stat().st_mode) == 0o600
    assert rows[0][2] not in result.output.replace(str(letters), "")


def test_without_a_letters_file_made_pins_are_shown_nowhere(config: Path, tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text(PEOPLE)

    result = mensa("people", "import", tmp_path / "people.csv", "--config", config, "--no-clips")

    assert result.exit_code == 0
    assert "1 PINs were made and nobody has them" in result.stderr


COOKS = "code,pin,schools,language\n90001,7315,,it\n90002,,primaria,\n"


def test_cooks_are_taken_in_place_of_those_before_and_a_made_pin_stands_in_the_letters_file_alone(
    config: Path, tmp_path: Path
) -> None:
    file, letters = tmp_path / "cooks.csv", tmp_path / "letters.csv"
    file.write_text(COOKS)

    first = mensa("people", "cooks", file, "--config", config, "--letters", letters)
    again = mensa("people", "cooks", file, "--config", config, "--json")
    file.write_text("code\n90002\n")
    fewer = mensa("people", "cooks", file, "--config", config, "--json")

    assert (first.exit_code, first.stdout) == (0, "Comune di Borgo: 2 cooks, in place of those before\n")
    header, row = letters.read_text().splitlines()
    assert (header, row[:15]) == ("code,schools,PIN", "90002,primaria,")
    assert stat.S_IMODE(letters.stat().st_mode) == 0o600
    assert row[15:] not in first.output.replace(str(letters), "")
    assert json.loads(again.stdout) == {"ok": True, "town": "borgo", "cooks": 2, "pins_made": 0}
    assert json.loads(fewer.stdout) == {"ok": True, "town": "borgo", "cooks": 1, "pins_made": 0}


def test_a_cooks_file_with_mistakes_takes_nobody_in(config: Path, tmp_path: Path) -> None:
    file = tmp_path / "cooks.csv"
    file.write_text(COOKS.replace("primaria", "liceo"))

    result = mensa("people", "cooks", file, "--config", config)

    assert result.exit_code == 1
    assert f"{file}:3:8: schools: there is no school 'liceo'" in result.output
    assert "nothing was taken in" in result.stderr


def test_a_cooks_code_that_is_a_pupils_is_refused_by_the_store_and_by_the_check(config: Path, tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text(PEOPLE)
    assert mensa("people", "import", tmp_path / "people.csv", "--config", config, "--no-clips").exit_code == 0
    town = config / "municipalities" / "borgo"
    for file in (tmp_path / "cooks.csv", town / "cooks.csv"):
        file.write_text(COOKS.replace("90001", "50002"))
    (town / "people.csv").write_text(PEOPLE)

    imported = mensa("people", "cooks", tmp_path / "cooks.csv", "--config", config)
    checked = mensa("calendar", "check", config)

    assert imported.exit_code == 2
    assert "a pupil has this code" in imported.stderr
    assert checked.exit_code == 1
    assert f"{town}/cooks.csv:2:1: code: '50002' is a pupil's or another cook's" in checked.stdout


def test_a_letters_file_that_is_there_is_not_written_over_and_nothing_is_taken_in(config: Path, tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text(PEOPLE)
    letters = tmp_path / "letters.csv"
    letters.write_text("older letters")

    result = mensa("people", "import", tmp_path / "people.csv", "--config", config, "--letters", letters, "--no-clips")

    assert result.exit_code == 2
    assert letters.read_text() == "older letters"
    assert not (tmp_path / "var" / "mensa.db").exists()


def test_import_is_all_or_nothing_and_reports_every_bad_row(config: Path, tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    file.write_text(PEOPLE.replace("1A", "1Z").replace("50003", "503"))

    result = mensa("people", "import", file, "--config", config, "--no-clips")
    document = json.loads(mensa("people", "import", file, "--config", config, "--json", "--no-clips").stdout)

    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        f"{file}:2:21: class: school 'primaria' has no class '1Z'; expected one of 1A, 3B",
        f"{file}:4:1: user_code: '503'; expected 5 digits",
        f"{file}: nothing was taken in",
    ]
    assert [each["line"] for each in document["mistakes"]] == [2, 4]
    assert not (tmp_path / "var" / "mensa.db").exists()


def test_a_made_pin_is_none_of_those_that_are_tried_first() -> None:
    pins = {make_pin(4) for _ in range(2_000)}

    assert all(len(pin) == 4 and pin.isdigit() for pin in pins)
    assert pins.isdisjoint({"0000", "1111", "1234", "4321", "9876", "7890"})
