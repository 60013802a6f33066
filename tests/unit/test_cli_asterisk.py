"""`mensa asterisk`: the production configuration, ready for an Asterisk."""

import re
import shutil
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.asterisk import dialled_forms
from gateway.cli import app
from gateway.files.load import Configuration, load_configuration

HOUSE = Path(__file__).parents[2]
TRUNK = ("--trunk-host", "sip.example.org", "--trunk-address", "192.0.2.10", "--trunk-address", "198.51.100.0/24")
PASSWORD = "tre-passi-nel-bosco"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    shutil.copytree(HOUSE / "config", tmp_path / "config")
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    return tmp_path


def asterisk(place: Path, *options: str) -> Result:
    arguments = ["asterisk", str(place / "pbx"), "--config", str(place / "config"), *options]
    return CliRunner().invoke(app, arguments)


def test_the_trunk_the_numbers_and_the_ports_of_the_settings_are_written(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MENSA_AGI__PORT", "4601")
    monkeypatch.setenv("MENSA_SIP__PORT", "5099")

    result = asterisk(
        place, *TRUNK, "--trunk-username", "mensa", "--trunk-password-file", str(place / "password"),
        "--external-address", "203.0.113.5",
    )  # fmt: skip

    assert result.exit_code == 0, result.output
    etc = place / "pbx" / "etc"
    assert result.stdout.splitlines() == [str(file) for file in sorted(etc.iterdir())]
    assert f"asterisk -f -U asterisk -C {etc}/asterisk.conf" in result.stderr
    sip = (etc / "pjsip.conf").read_text()
    assert re.findall(r"^match = (.*)$", sip, re.MULTILINE) == ["192.0.2.10", "198.51.100.0/24"]
    assert f"password = {PASSWORD}\n" in sip
    assert "bind = 0.0.0.0:5099\n" in sip
    assert "external_media_address = 203.0.113.5\n" in sip
    dialplan = (etc / "extensions.conf").read_text()
    assert "agi://127.0.0.1:4601/line" in dialplan
    configuration = load_configuration(place / "config")
    assert isinstance(configuration, Configuration)
    [town] = configuration.municipalities
    assert all(f"exten => {form}," in dialplan for form in dialled_forms(town.numbers))
    assert (place / "pbx" / "data" / "sounds").is_symlink()


def test_nothing_secret_is_for_other_eyes(place: Path) -> None:
    asterisk(place, *TRUNK, "--trunk-username", "mensa", "--trunk-password-file", str(place / "password"))

    secret = (place / "var" / "secrets" / "ami.secret").read_text()
    files = [file for file in place.rglob("*") if file.is_file() and not file.is_relative_to(place / "config")]
    holding = [file for file in files if secret in file.read_text() or PASSWORD in file.read_text()]
    names = {file.name for file in holding} - {"password"}
    assert names == {"ami.secret", "manager.conf", "pjsip.conf"}
    assert {stat.S_IMODE(file.stat().st_mode) for file in holding if file.name != "password"} == {0o600}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "no trunk is named; expected --trunk-host and --trunk-address"),
        (TRUNK[:2], "no trunk is named"),
        ((*TRUNK, "--trunk-username", "mensa"), "--trunk-username and --trunk-password-file go together"),
        ((*TRUNK, "--trunk-username", "m", "--trunk-password-file", "/nowhere/at-all"), "/nowhere/at-all"),
        ((*TRUNK, "--trunk-address", "all"), "'all' does not appear to be an IPv4 or IPv6 network"),
        ((*TRUNK, "--external-address", "here"), "'here' does not appear to be an IPv4 or IPv6 address"),
        ((*TRUNK, "--town", "rocachiara"), "did you mean 'roccachiara'?"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_one_line_and_nothing_is_written(
    place: Path, options: tuple[str, ...], message: str
) -> None:
    result = asterisk(place, *options)

    assert result.exit_code == 2
    [line] = result.stderr.splitlines()
    assert message in line
    assert not (place / "pbx").exists()


def test_a_town_with_mistakes_is_not_left_out_silently(place: Path) -> None:
    shutil.copytree(
        place / "config" / "municipalities" / "roccachiara", place / "config" / "municipalities" / "altrove"
    )
    (place / "config" / "municipalities" / "altrove" / "calendar.yaml").write_text("year: 1\n")

    result = asterisk(place, *TRUNK)

    assert result.exit_code == 2
    assert "keep altrove out" in result.stderr.splitlines()[-1]


def test_a_port_that_changes_at_each_start_is_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MENSA_AGI__PORT", "0")

    result = asterisk(place, *TRUNK)

    assert (result.exit_code, result.stderr.partition(":")[0]) == (2, "agi.port")
