"""What every command opens first, and what it says where it cannot."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli import app
from gateway.files.load import Configuration, load_configuration
from gateway.installation import InstallationError, open_installation

HOUSE = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The example's configuration, with a file in the place of its folder of secrets."""
    shutil.copytree(HOUSE / "config", tmp_path / "config")
    (tmp_path / "taken").write_text("")
    monkeypatch.setenv("MENSA_SECRETS", "taken")
    return tmp_path / "config"


async def test_a_folder_of_secrets_that_cannot_be_made_is_said(folder: Path) -> None:
    configuration = load_configuration(folder)
    assert isinstance(configuration, Configuration)

    with pytest.raises(InstallationError, match=r"taken: the folder of secrets cannot be made \(File exists\)"):
        async with open_installation(configuration, makes_database=True):
            pass

    assert not (folder.parent / "var").exists()


def test_a_command_ends_with_that_line(folder: Path) -> None:
    result = CliRunner().invoke(app, ["serve", "--config", str(folder)])

    assert result.exit_code == 2
    [line] = result.stderr.splitlines()
    assert "expected a folder of this user; nothing was opened" in line
