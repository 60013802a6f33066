"""Rehearsal files: what their words mean, what is said of wrong ones, and how a failed line reads."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.cli_line import line_app
from gateway.rehearsal import Call, parse

CONVERSATIONS = Path(__file__).parents[1] / "conversations"
FILE = Path("file.txt")
BEGIN = "town esempio\nat 2026-11-23 18:30\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    folder = tmp_path / "config"
    shutil.copytree(CONVERSATIONS / "config", folder)
    return folder


def rehearse(config: Path, *files: Path | str) -> Result:
    return CliRunner().invoke(line_app, ["rehearse", "--config", str(config), *map(str, files)])


def written(folder: Path, text: str, name: str = "file.txt") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        ("1 1          # a whole call", ("1", "1")),
        ("50004# 4321# 1", ("50004#", "4321#", "1")),
        ("1 # 2", ("1", "#", "2")),
        ("# # x   # hangs up", ("#", "#", "x")),
        ("1 # 2 # the sibling, after all", ("1", "#", "2")),
        ("1 1 # press 1 # twice", ("1", "1")),
        ("", ()),
    ],
)
def test_a_hash_among_keys_is_a_key_and_one_before_words_begins_a_comment(words: str, keys: tuple[str, ...]) -> None:
    steps, mistakes = parse(f"call anonymous keys {words}", FILE)

    assert mistakes == []
    assert [step.doing for step in steps] == [Call(None, None, keys)]


def test_a_falsified_line_is_told_with_what_was_found_and_the_rest_goes_on(config: Path, tmp_path: Path) -> None:
    file = written(
        tmp_path,
        BEGIN + "call +390350000202 keys 1 1\noutcome bland\npresence 50003 2026-11-24 present\noutcome cancelled\n",
    )

    result = rehearse(config, file)

    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        f"{file}:4: outcome: expected bland, found cancelled",
        f"{file}:5: presence: expected present, found cancelled",
    ]


def test_a_town_that_is_not_there_is_said_once_and_nothing_else_of_its_file(config: Path, tmp_path: Path) -> None:
    file = written(tmp_path, BEGIN.replace("esempio", "esmpio") + "call anonymous\noutcome informed\n")

    result = rehearse(config, file)

    assert result.exit_code == 2
    [line] = result.stdout.splitlines()
    assert line.startswith(f"{file}:1:1: town: ")
    assert "did you mean 'esempio'?" in line


def test_a_town_with_mistakes_is_told_by_its_own_files_once_for_all_rehearsals(config: Path, tmp_path: Path) -> None:
    calendar = config / "municipalities" / "esempio" / "calendar.yaml"
    calendar.write_text(calendar.read_text(encoding="utf-8") + "patrno: 2026-11-11\n", encoding="utf-8")
    files = [written(tmp_path, BEGIN + "call anonymous\n", name) for name in ("one.txt", "two.txt")]

    result = rehearse(config, *files)

    assert result.exit_code == 2
    [line] = result.stdout.splitlines()
    assert line.startswith(f"{calendar}:")
    assert "patrno" in line


def test_a_file_that_begins_without_a_town_is_told_so_once(config: Path, tmp_path: Path) -> None:
    file = written(tmp_path, "at 2026-11-23 18:30\ncall anonymous\n")

    result = rehearse(config, file)

    assert result.exit_code == 2
    assert result.stdout.splitlines() == [f"{file}:1:1: at: no town yet; start the file with: town NAME"]


def test_a_file_that_comes_back_to_a_town_finds_what_was_changed_there(config: Path, tmp_path: Path) -> None:
    there_and_back = (
        BEGIN
        + "call +390350000202 keys 1 1\ntown seggio\npresence 50003 2026-11-26 present\n"
        + "town esempio\npresence 50003 2026-11-24 cancelled\n"
    )

    result = rehearse(config, written(tmp_path, there_and_back))

    assert (result.stdout, result.exit_code) == ("", 0)


def test_a_wrong_count_is_told_with_what_was_counted(config: Path, tmp_path: Path) -> None:
    steps = "headcount primaria 2026-11-24 present=3\nclose 2026-11-24\n"
    steps += "headcount primaria 2026-11-24 present=4 bland=0 diet:C=1\n"
    file = written(tmp_path, BEGIN + steps)

    result = rehearse(config, file)

    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        f"{file}:5: headcount: expected present=4 bland=0 diet:C=1, found present=3 bland=0 diet:C=0"
    ]


def test_a_school_or_a_day_of_which_nothing_is_counted_is_a_mistake_of_its_line(config: Path, tmp_path: Path) -> None:
    file = written(tmp_path, BEGIN + "close 2026-11-29\nheadcount prmaria 2026-11-24 present=3\n")

    result = rehearse(config, file)

    assert result.exit_code == 1
    closing, counting = result.stdout.splitlines()
    assert closing == f"{file}:3:1: close: no school of esempio is served on 2026-11-29; expected a service day"
    assert counting == f"{file}:4:1: headcount: esempio has no school 'prmaria'; did you mean 'primaria'?"


@pytest.mark.parametrize(
    ("step", "column", "text"),
    [
        ("close", 6, "expected: close DAY"),
        ("close today", 7, "expected a date"),
        ("headcount primaria 2026-11-24", 30, "expected: headcount SCHOOL DAY"),
        ("headcount primaria 2026-11-24 meals=3", 31, "'meals=3' is no count"),
        ("headcount primaria 2026-11-24 present=", 31, "'present=' is no count"),
        ("headcount primaria 2026-11-24 present=-1", 31, "is no count"),
        ("headcount primaria 2026-11-24 diet:=1", 31, "is no count"),
        ("headcount primaria 2026-11-24 present=1 present=2", 41, "present is counted twice"),
    ],
)
def test_R25_a_step_of_a_day_closing_that_is_not_understood_says_what_it_expects(
    step: str, column: int, text: str
) -> None:
    steps, [mistake] = parse(step, FILE)

    assert steps == []
    assert mistake.column == column
    assert text in mistake.message


def test_mistakes_are_all_told_with_their_places_and_nothing_is_run(config: Path, tmp_path: Path) -> None:
    file = written(tmp_path, BEGIN + "presence 50003 2026-02-30 present\ncredit 50003 500\n  outcome canceled # no\n")

    result = rehearse(config, file, "--json")

    assert result.exit_code == 2
    failed = json.loads(result.stdout)["failed"]
    assert [(each["line"], each["column"]) for each in failed] == [(3, 16), (4, 1), (5, 11)]
