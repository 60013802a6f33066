"""The `mensa` command as a whole: what every command takes, and how it ends where it is wrongly used."""

import shutil
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from gateway.cli import app

HOUSE = Path(__file__).parents[2]
CONVERSATIONS = HOUSE / "tests" / "conversations"


def commands(group: typer.core.TyperGroup, *words: str) -> list[tuple[str, ...]]:
    """Every command, as it is typed."""
    found: list[tuple[str, ...]] = []
    for name, command in group.commands.items():
        if isinstance(command, typer.core.TyperGroup):
            found += commands(command, *words, name)
        else:
            found.append((*words, name))
    return found


COMMANDS = commands(typer.main.get_command(app))  # type: ignore[arg-type]  # an app with commands is a group


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_takes_a_configuration_folder_and_a_town(words: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "200"})

    assert "--config" in shown.stdout
    assert "--town" in shown.stdout


@pytest.mark.parametrize("command", ["serve", "run"])
def test_a_town_that_is_not_there_is_not_served(tmp_path: Path, command: str) -> None:
    shutil.copytree(HOUSE / "config", tmp_path / "config")

    result = CliRunner().invoke(app, [command, "--config", str(tmp_path / "config"), "--town", "rocachiara"])

    assert result.exit_code == 2
    assert "did you mean 'roccachiara'?" in result.stderr
    assert not (tmp_path / "var").exists()


def test_a_file_with_a_mistake_keeps_no_other_from_being_rehearsed(tmp_path: Path) -> None:
    good, wrong = tmp_path / "good.txt", tmp_path / "wrong.txt"
    good.write_text("town esempio\nat 2026-11-23 18:30\ncall anonymous keys x\noutcome informed\n", encoding="utf-8")
    wrong.write_text("town esempio\nat some day\n", encoding="utf-8")

    result = CliRunner().invoke(app, ["rehearse", str(wrong), str(good), "--config", str(CONVERSATIONS / "config")])

    assert result.exit_code == 2
    assert f"{wrong}:2:4: " in result.stdout
    assert f"{good}:4: outcome: expected informed, found not_identified" in result.stdout
