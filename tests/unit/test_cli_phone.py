"""`mensa phone` as a curious parent or a clerk uses it: a scratch copy, one line for each mistake, a file to rehearse."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.cli_line import line_app
from gateway.cli_people import people_app

HOUSE = Path(__file__).parents[2]
ANNA = "+390350000101"
EVENING = "2026-11-23T18:30"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The example town without a database."""
    for name in ("MENSA_DATABASE__URL", "MENSA_SECRETS"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "config"
    shutil.copytree(HOUSE / "config", folder)
    return folder


@pytest.fixture
def enrolled(config: Path) -> Path:
    """The example town with its people in a database."""
    people = config / "municipalities" / "roccachiara" / "people.csv"
    taken_in = CliRunner().invoke(people_app, ["import", str(people), "--config", str(config), "--no-clips"])
    assert taken_in.exit_code == 0, taken_in.stderr
    return config


def phone(config: Path, *words: object) -> Result:
    return CliRunner().invoke(line_app, ["phone", "--config", str(config), *map(str, words)])


def rehearse(config: Path, *words: object) -> Result:
    return CliRunner().invoke(line_app, ["rehearse", "--config", str(config), *map(str, words)])


def test_a_call_is_made_on_a_copy_and_changes_nothing(enrolled: Path) -> None:
    words = ("--from", ANNA, "--at", EVENING, "--keys", "1 1 x", "--json")

    outcomes = [json.loads(phone(enrolled, *words).stdout)["outcome"] for _ in range(2)]

    assert outcomes == ["cancelled", "cancelled"]


def test_without_the_key_of_the_database_no_call_is_made_and_no_key_either(enrolled: Path) -> None:
    secrets = enrolled.parent / "var" / "secrets"
    shutil.rmtree(secrets)

    result = phone(enrolled, "--from", ANNA, "--keys", "x")

    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert "pin.key" in result.stderr
    assert not secrets.exists()


def test_with_the_key_of_another_database_no_call_is_made(enrolled: Path) -> None:
    key = enrolled.parent / "var" / "secrets" / "pin.key"
    key.write_text("00" * 32, encoding="ascii")

    result = phone(enrolled, "--from", ANNA, "--keys", "x")

    assert result.exit_code == 2
    assert result.stderr.startswith("PIN key: its fingerprint is ")


def test_a_database_that_is_none_ends_the_command_with_one_line(enrolled: Path) -> None:
    (enrolled.parent / "var" / "mensa.db").write_bytes(b"no database at all" * 100)

    result = phone(enrolled, "--keys", "x")

    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert "mensa.db" in result.stderr


def test_a_saved_call_can_be_rehearsed_also_where_the_clock_is_in_doubt(config: Path, tmp_path: Path) -> None:
    saved = tmp_path / "saved.txt"

    phone(config, "--from", ANNA, "--at", "2026-11-24 09:30:00.040 ±50ms", "--keys", "1 1 x", "--save", saved)

    assert "at        2026-11-24 09:30:00.040 ±50ms" in saved.read_text(encoding="utf-8").splitlines()
    assert "outcome   cancelled" in saved.read_text(encoding="utf-8").splitlines()
    assert rehearse(config, saved).exit_code == 0


def test_a_file_that_cannot_be_written_is_said_in_one_line(config: Path, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere" / "saved.txt"

    result = phone(config, "--keys", "x", "--save", nowhere)

    assert result.exit_code == 2
    assert next(line for line in result.stderr.splitlines() if str(nowhere) in line).startswith("--save: ")


def test_each_prompt_is_told_in_the_language_it_was_said_in(config: Path) -> None:
    result = phone(config, "--from", ANNA, "--at", EVENING, "--keys", "8 x", "--json")

    states = [each["words"] for each in json.loads(result.stdout)["heard"] if each["id"] == "state"]
    assert ["novembre" in states[0], "November" in states[1]] == [True, True]
