"""The gateway's settings: every one has a default, the environment beats the file, mistakes have their place."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from gateway.files.load import load_settings
from gateway.settings import MailSettings, Settings


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MENSA_AGI__PORT", "MENSA_AGI", "MENSA_DATABASE__URL", "MENSA_SECRETS"):
        monkeypatch.delenv(name, raising=False)


def settings(folder: Path, text: str) -> Settings:
    file = folder / "gateway.yaml"
    file.write_text(text, encoding="utf-8")
    found = load_settings(file)
    assert isinstance(found, Settings), "\n".join(map(str, found))
    return found


def mistakes(folder: Path, text: str) -> list[str]:
    file = folder / "gateway.yaml"
    file.write_text(text, encoding="utf-8")
    found = load_settings(file)
    assert isinstance(found, tuple)
    return [f"{each.file.name}:{each.line}:{each.column}: {each.message}" for each in found]


@pytest.mark.parametrize("text", ["", "# nothing\n", "agi:\n"])
def test_an_empty_file_means_the_defaults(tmp_path: Path, text: str) -> None:
    found = settings(tmp_path, text)

    assert (found.agi.host, found.agi.port) == ("127.0.0.1", 4573)
    assert (found.ami.port, found.web.port) == (5038, 8080)
    assert found.database.url == "sqlite:///var/mensa.db"


def test_a_missing_file_means_the_defaults(tmp_path: Path) -> None:
    assert load_settings(tmp_path / "gateway.yaml") == Settings()


def test_the_file_gives_settings_and_the_environment_beats_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MENSA_AGI__PORT", "4574")

    found = settings(tmp_path, 'agi: {port: 4580, host: "::1"}\nclock: {servers: [ntp.example.org]}\n')

    assert (found.agi.port, found.agi.host) == (4574, "::1")
    assert found.clock.servers == ("ntp.example.org",)


def test_every_mistake_comes_at_once_with_its_place(tmp_path: Path) -> None:
    text = "agi: {prt: 4573, sessions_max: 0}\nami: {enabled: perhaps}\nlog: {level: loud}\ndrain: {seconds: long}\nweb: 8080\n"

    assert mistakes(tmp_path, text) == [
        "gateway.yaml:1:7: unknown key 'prt'; did you mean 'port'?",
        "gateway.yaml:1:32: sessions_max: '0' is too small; expected at least 1",
        "gateway.yaml:2:16: enabled: 'perhaps' is neither yes nor no; expected yes or no",
        "gateway.yaml:3:14: level: 'loud' cannot stand here; expected 'debug', 'info', 'warning' or 'error'",
        "gateway.yaml:4:18: seconds: 'long' is no number; expected one in digits",
        "gateway.yaml:5:6: web: '8080' is no table; expected keys with values, as `key: value`",
    ]


def test_a_mistake_in_the_environment_names_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MENSA_AGI__PORT", "door")

    assert mistakes(tmp_path, "agi: {port: 4580}\n") == [
        "(environment):1:1: MENSA_AGI__PORT: 'door' is no whole number; expected one in digits"
    ]


def test_an_environment_that_is_no_json_is_a_mistake_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MENSA_AGI", "{port")

    [mistake] = mistakes(tmp_path, "")

    assert mistake.startswith("(environment):1:1: ")
    assert "agi" in mistake


def test_a_password_is_not_sent_over_a_line_that_anybody_can_read() -> None:
    values = {"host": "smtp.example.org", "sender": "mensa@example.org", "user": "mensa"}

    with pytest.raises(ValidationError, match="expected security: starttls or tls"):
        MailSettings(security="none", **values)

    assert MailSettings(**values).security == "starttls"
