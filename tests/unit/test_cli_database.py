"""`mensa generate` and `mensa db copy` as an operator sees them."""

import asyncio
import json
import sqlite3
import stat
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.cli import app
from gateway.files.load import Configuration, load_configuration
from gateway.generation import PLAN_SETTING, Callers, Plan
from gateway.installation import open_installation
from gateway.store.engine import open_store
from gateway.store.port import Node

SMALL = ("--towns", "5", "--pupils", "200", "--days", "5", "--until", "2026-11-22", "--seed", "4")


def mensa(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A generated installation in a folder that was not there."""
    result = mensa("generate", *SMALL, "--config", tmp_path / "new" / "config", "--database", url(tmp_path))
    assert result.exit_code == 0, result.output
    return tmp_path / "new" / "config"


def url(folder: Path, name: str = "mensa.db") -> str:
    return f"sqlite:///{folder / name}"


def test_a_generated_installation_is_opened_with_the_folder_alone(config: Path) -> None:
    configuration = load_configuration(config)
    assert isinstance(configuration, Configuration)

    async def look() -> None:
        async with open_installation(configuration) as house:
            plan = Plan.from_text(await house.store.get_setting(PLAN_SETTING) or "")
            caller = Callers(plan)[0]
            town = configuration.municipalities.reached_by(caller.dialled)
            assert town is not None
            family = await house.desks_of(town).access.recognise(caller.number)
            assert (family is not None) == caller.is_recognised

    asyncio.run(look())


def test_generating_says_the_rows_of_each_table_and_how_fast(tmp_path: Path, config: Path) -> None:
    again = mensa("generate", *SMALL, "--config", config, "--json")

    assert json.loads(again.stdout)["tables"][0] == {"table": "municipalities", "rows": 0}
    result = mensa("generate", *SMALL, "--config", tmp_path / "config", "--database", url(tmp_path, "other.db"))
    assert "│ pupils          │   200 │" in result.stdout
    assert "rows/s" in result.stdout


def test_the_settings_that_may_hold_a_password_are_their_owners_alone(config: Path) -> None:
    assert stat.S_IMODE((config / "gateway.yaml").stat().st_mode) == 0o600


def test_what_cannot_be_generated_ends_with_a_line(tmp_path: Path) -> None:
    for words, says in (
        (("--towns", "0"), "--towns: 0; expected 1 to"),
        (("--days", "100"), "has only"),
        (("--until", "yesterday"), "is no day"),
        (("--database", "mysql://x/y"), "database URL"),
    ):
        result = mensa("generate", "--config", tmp_path / "config", "--until", "2026-11-22", *words)

        assert result.exit_code == 2
        assert says in result.stderr
        assert "Traceback" not in result.output


def test_a_copy_says_what_was_copied_and_verified(tmp_path: Path, config: Path) -> None:
    result = mensa("db", "copy", url(tmp_path), url(tmp_path, "copy.db"))

    assert result.exit_code == 0, result.output
    (line,) = [line for line in result.stdout.splitlines() if "│ pupils " in line]
    assert line.split()[1:8:2] == ["pupils", "0", "200", "200"]
    assert "every value of every row is the same" in result.stdout
    document = json.loads(mensa("db", "copy", url(tmp_path), url(tmp_path, "copy.db"), "--json").stdout)
    assert document["ok"] is True
    assert {each["copied"] for each in document["tables"]} == {0}


def test_a_row_that_is_not_the_same_ends_a_copy_with_1_and_its_place(tmp_path: Path, config: Path) -> None:
    mensa("db", "copy", url(tmp_path), url(tmp_path, "copy.db"))
    with closing(sqlite3.connect(tmp_path / "copy.db", isolation_level=None)) as connection:
        connection.execute("UPDATE pupils SET surname = 'Verdini' WHERE id = 17")

    result = mensa("db", "copy", url(tmp_path), url(tmp_path, "copy.db"))

    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "pupils, id 17: not the same in the source: surname; the copy is not to be used" in result.stderr


def test_a_copy_that_is_refused_ends_with_2(tmp_path: Path, config: Path) -> None:
    async def stay_up() -> None:
        store = await open_store(url(tmp_path))
        # A generated installation is a rehearsal whose clock was not moved.
        await store.beat(Node("gateway", datetime.now(UTC), datetime.now(UTC), "hash", 1))
        await store.close()

    asyncio.run(stay_up())

    for target in (url(tmp_path, "copy.db"), url(tmp_path), "nonsense"):
        result = mensa("db", "copy", url(tmp_path), target)

        assert result.exit_code == 2
        assert result.stderr.count("\n") == 1
    assert not (tmp_path / "copy.db").exists()


def test_one_town_of_a_database_is_neither_copied_nor_generated(tmp_path: Path, config: Path) -> None:
    for words in (("db", "copy", url(tmp_path), url(tmp_path, "copy.db")), ("generate", *SMALL)):
        result = mensa(*words, "--town", "comune-00001", "--config", config)

        assert result.exit_code == 2
        assert "expected no --town" in result.stderr
    assert not (tmp_path / "copy.db").exists()


def test_a_relative_path_starts_where_that_of_the_settings_does(tmp_path: Path, config: Path) -> None:
    result = mensa("db", "copy", url(tmp_path), "sqlite:///var/copy.db", "--config", config)

    assert result.exit_code == 0, result.output
    assert (config.parent / "var" / "copy.db").exists()
