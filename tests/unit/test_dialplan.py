"""What Asterisk is told. That it does it is for tests/e2e/test_asterisk.py."""

import re
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.asterisk import AsteriskSettings, Trunk, dialled_forms, kept_secret, render

REHEARSAL = AsteriskSettings(
    numbers=("800000100", "+390350000100"), sounds=Path("/srv/sounds"), ami_secret="not-a-secret", sip_port=5070
)
TRUNK = Trunk(
    host="sip.example.org",
    addresses=("192.0.2.10", "198.51.100.0/24"),
    username="comune",
    password="not-a-password",
    external_address="203.0.113.5",
)
PRODUCTION = replace(REHEARSAL, trunk=TRUNK, sip_address="0.0.0.0")

CALLING_OUT = ("app_dial", "app_originate", "app_system", "func_shell", "res_clioriginate", "pbx_spool", "app_exec")
RECORDING = ("app_record", "app_mixmonitor", "app_chanspy", "app_monitor", "cdr_", "cel_", "res_ari", "app_verbose")


def rendered(settings: AsteriskSettings, folder: Path) -> dict[str, str]:
    render(settings, folder)
    return {path.name: path.read_text(encoding="utf-8") for path in (folder / "etc").iterdir()}


def without_comments(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.startswith(";"))


@pytest.mark.parametrize("settings", [REHEARSAL, PRODUCTION])
def test_only_named_modules_are_loaded_and_none_that_calls_out_or_records(
    settings: AsteriskSettings, tmp_path: Path
) -> None:
    modules = rendered(settings, tmp_path)["modules.conf"]

    assert "autoload = no" in modules
    for forbidden in CALLING_OUT + RECORDING:
        assert f"load = {forbidden}" not in modules


@pytest.mark.parametrize("settings", [REHEARSAL, PRODUCTION])
def test_nothing_that_carries_keyed_digits_is_logged(settings: AsteriskSettings, tmp_path: Path) -> None:
    files = rendered(settings, tmp_path)

    assert re.findall(r"^\S+ => (.*)$", files["logger.conf"], re.MULTILINE) == ["notice,warning,error"]
    assert "enable = no" in files["cdr.conf"]
    assert "enable = no" in files["cel.conf"]
    assert "verbose = 0" in files["asterisk.conf"]
    assert "dumpcore = no" in files["asterisk.conf"]


@pytest.mark.parametrize("settings", [REHEARSAL, PRODUCTION])
def test_the_ami_is_on_loopback_and_neither_hears_agi_nor_acts(settings: AsteriskSettings, tmp_path: Path) -> None:
    manager = rendered(settings, tmp_path)["manager.conf"]

    assert "bindaddr = 127.0.0.1\n" in manager
    assert "\nread = call,user,system\n" in manager
    assert "\nwrite = reporting\n" in manager
    assert "eventfilter(name(UserEvent)) =" in manager


@pytest.mark.parametrize("settings", [REHEARSAL, PRODUCTION])
def test_a_call_can_enter_one_context_only_and_its_numbers_are_the_towns(
    settings: AsteriskSettings, tmp_path: Path
) -> None:
    files = rendered(settings, tmp_path)

    assert re.findall(r"^context = (.*)$", files["pjsip.conf"], re.MULTILINE) == ["numbers"]
    numbers = files["extensions.conf"].split("[numbers]")[1].split("\n[")[0]
    assert re.findall(r"^exten => ([^,]+),", numbers, re.MULTILINE) == list(dialled_forms(settings.numbers))


def test_rehearsal_takes_calls_from_this_machine_alone(tmp_path: Path) -> None:
    files = rendered(REHEARSAL, tmp_path)

    assert "bind = 127.0.0.1:5070" in files["pjsip.conf"]
    assert re.findall(r"^match = (.*)$", files["pjsip.conf"], re.MULTILINE) == ["127.0.0.1"]
    assert "bindaddr = 127.0.0.1" in files["http.conf"]
    assert "type = registration" not in files["pjsip.conf"]


def test_production_takes_calls_from_the_operators_addresses_alone_and_registers(tmp_path: Path) -> None:
    files = rendered(PRODUCTION, tmp_path)

    assert re.findall(r"^match = (.*)$", files["pjsip.conf"], re.MULTILINE) == ["192.0.2.10", "198.51.100.0/24"]
    assert "server_uri = sip:sip.example.org" in files["pjsip.conf"]
    assert "external_media_address = 203.0.113.5" in files["pjsip.conf"]
    assert "strictrtp = yes" in files["rtp.conf"]
    assert "enabled = no" in files["http.conf"]
    assert "websocket" not in without_comments(files["modules.conf"] + files["pjsip.conf"])


def test_an_operator_who_knows_us_by_address_needs_no_registration(tmp_path: Path) -> None:
    trunk = Trunk(host="sip.example.org", addresses=("192.0.2.10",))

    files = rendered(replace(PRODUCTION, trunk=trunk), tmp_path)

    assert "type = registration" not in files["pjsip.conf"]


def test_the_gateways_are_asked_in_order_before_the_fallback(tmp_path: Path) -> None:
    settings = replace(REHEARSAL, gateways=("127.0.0.1:14573", "10.0.0.2:4574"), calls_max=7)

    dialplan = rendered(settings, tmp_path)["extensions.conf"]

    assert re.findall(r"AGI\((.*?)\)", dialplan) == [
        "agi://127.0.0.1:14573/line",
        "agi://10.0.0.2:4574/line",
        "agi://127.0.0.1:14573/hungup",
        "agi://10.0.0.2:4574/hungup",
    ]
    assert "${GROUP_COUNT(line)} > 7" in dialplan


def test_every_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    render(PRODUCTION, tmp_path)

    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "etc").iterdir()}
    assert modes == {0o600}
    assert stat.S_IMODE((tmp_path / "etc").stat().st_mode) == 0o700


def test_rendering_again_replaces_what_an_earlier_version_left(tmp_path: Path) -> None:
    render(REHEARSAL, tmp_path)
    (tmp_path / "etc" / "manager.conf").chmod(0o644)

    render(replace(REHEARSAL, ami_port=15038), tmp_path)

    manager = tmp_path / "etc" / "manager.conf"
    assert "port = 15038" in manager.read_text(encoding="utf-8")
    assert stat.S_IMODE(manager.stat().st_mode) == 0o600


def test_no_setting_is_left_open_and_no_template_mark_is_left_over(tmp_path: Path) -> None:
    for text in rendered(PRODUCTION, tmp_path).values():
        assert not re.search(r"\{\{|\}\}|\{%|%\}|None|True|False", text)


@pytest.mark.parametrize(
    ("number", "forms"),
    [
        ("800000100", ("800000100", "+39800000100", "39800000100", "0039800000100")),
        ("+390350000100", ("+390350000100", "390350000100", "00390350000100", "0350000100")),
        ("100", ("100", "+39100", "39100", "0039100")),
    ],
)
def test_a_number_answers_in_every_form_in_which_operators_write_it(number: str, forms: tuple[str, ...]) -> None:
    assert dialled_forms([number]) == forms


@pytest.mark.parametrize(
    "change",
    [
        {"numbers": ()},
        {"numbers": ("_X.",)},
        {"numbers": ("800,1,Hangup()",)},
        {"ami_secret": ""},
        {"ami_secret": "one\n[two]"},
        {"ami_secret": "half;comment"},
        {"ami_user": "a]b"},
        {"sip_address": "127.0.0.1\nbind"},
        {"language": "it}${X"},
        {"gateways": ("127.0.0.1:4573/x", "127.0.0.1:4574")},
        {"gateways": ("127.0.0.1", "127.0.0.1:4574")},
        {"rtp_last": 10100},
    ],
)
def test_what_could_mean_something_else_to_asterisk_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"expected|cannot stand"):
        replace(REHEARSAL, **change)  # type: ignore[arg-type]  # each case has one field of its own type


@pytest.mark.parametrize(
    "change",
    [{"addresses": ()}, {"addresses": ("all",)}, {"host": "a b"}, {"password": "x\ny"}, {"external_address": "here"}],
)
def test_a_trunk_without_an_address_or_with_an_unwritable_value_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"expected|cannot stand|does not appear"):
        replace(TRUNK, **change)  # type: ignore[arg-type]  # each case has one field of its own type


def test_a_secret_is_made_once_and_kept_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "secrets" / "ami.secret"

    first, second = kept_secret(path), kept_secret(path)

    assert first == second
    assert len(first) >= 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert kept_secret(tmp_path / "other") != first
