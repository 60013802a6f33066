"""What stands in the log: one JSON object a line, and nothing that must not."""

import io
import json
import logging
from collections.abc import Iterator
from datetime import UTC, date, datetime

import pytest
import structlog

from gateway.logs import REMOVED, SECRET_FIELDS, configure, get_log

CALLER = "+390350000101"


@pytest.fixture(autouse=True)
def _afterwards_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def file() -> io.StringIO:
    return io.StringIO()


def lines(file: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.getvalue().splitlines()]


def test_each_event_is_one_json_object_on_one_line(file: io.StringIO) -> None:
    configure(as_json=True, file=file)

    get_log(node="one").info("call_ended", seconds=41, outcome="cancelled", heard="a\nb", town="Sant'Agata è")

    (line,) = lines(file)
    assert line.pop("timestamp")
    assert line == {
        "event": "call_ended",
        "level": "info",
        "node": "one",
        "seconds": 41,
        "outcome": "cancelled",
        "heard": "a\nb",
        "town": "Sant'Agata è",
    }


def test_an_instant_is_written_as_everywhere_else(file: io.StringIO) -> None:
    configure(as_json=True, file=file)

    get_log().info("call_ended", started=datetime(2026, 11, 22, 17, 30, tzinfo=UTC), day=date(2026, 11, 23))

    (line,) = lines(file)
    assert (line["started"], line["day"]) == ("2026-11-22T17:30:00+00:00", "2026-11-23")


@pytest.mark.parametrize("name", ["number", "caller", "phone", "Caller"])
def test_a_number_is_masked_by_the_name_of_its_field(file: io.StringIO, name: str) -> None:
    configure(as_json=True, file=file)

    get_log().info("x", **{name: CALLER})
    get_log().info("x", **{name: "0350000101"})
    get_log().info("x", fields={name: CALLER}, several=[{name: CALLER}])

    assert "0101" not in file.getvalue()
    assert lines(file)[0][name] == "+3903******01"


def test_what_was_masked_before_stays_as_it_is(file: io.StringIO) -> None:
    configure(as_json=True, file=file)

    get_log().info("x", number="+3903******01")
    get_log().info("x", number="withheld", caller=None)

    assert [line["number"] for line in lines(file)] == ["+3903******01", "withheld"]


def test_a_number_within_a_sentence_is_masked_too(file: io.StringIO) -> None:
    configure(as_json=True, file=file)

    get_log().info("x", why=f"caller {CALLER} was refused", call="1795454400.7", instant="2026-11-23T18:30:00+01:00")

    (line,) = lines(file)
    assert line["why"] == "caller +3903******01 was refused"
    assert line["call"] == "1795454400.7"
    assert line["instant"] == "2026-11-23T18:30:00+01:00"


def test_a_number_in_the_message_of_an_exception_is_masked_too(file: io.StringIO) -> None:
    configure(as_json=True, file=file)

    try:
        raise LookupError(f"no family for {CALLER}")
    except LookupError as fault:
        get_log().warning("x", exc_info=fault)

    (line,) = lines(file)
    assert "no family for +3903******01" in str(line["exception"])
    assert CALLER not in file.getvalue()


@pytest.mark.parametrize("name", sorted({*SECRET_FIELDS, "PIN"}))
def test_codes_pins_and_keys_are_taken_out(file: io.StringIO, name: str) -> None:
    configure(as_json=True, file=file)

    get_log().info("x", **{name: "4321"})
    get_log().info("x", fields={name: 4321})

    assert "4321" not in file.getvalue()
    assert lines(file)[0][name] == REMOVED


def test_what_is_nested_too_deep_is_not_written_unseen(file: io.StringIO) -> None:
    configure(as_json=True, file=file)

    get_log().info("x", a={"b": {"c": {"d": {"e": {"pin": "4321"}}}}})

    assert "4321" not in file.getvalue()


def test_lines_of_other_libraries_pass_the_same_fence(file: io.StringIO) -> None:
    configure(as_json=True, file=file)

    logging.getLogger("somebody.elses").warning("number %s failed", CALLER, extra={"pin": "4321"})

    (line,) = lines(file)
    assert line["event"] == "number +3903******01 failed"
    assert line["level"] == "warning"
    assert "4321" not in file.getvalue()


def test_talkative_libraries_say_only_what_is_wrong(file: io.StringIO) -> None:
    configure(as_json=True, file=file)

    logging.getLogger("httpx").info("POST https://api.example.org/botSECRET/getUpdates")
    logging.getLogger("panoramisk").debug("message interpreted")

    assert file.getvalue() == ""


def test_less_than_the_level_is_left_out(file: io.StringIO) -> None:
    configure(as_json=True, level="warning", file=file)

    get_log().info("x")
    get_log().warning("y")

    assert [line["event"] for line in lines(file)] == ["y"]


def test_a_level_that_is_none_is_refused(file: io.StringIO) -> None:
    with pytest.raises(ValueError, match="expected one of debug, info, warning, error"):
        configure(as_json=True, level="loud", file=file)


def test_lines_for_reading_pass_the_fence_as_well_and_have_no_colour_in_a_file(file: io.StringIO) -> None:
    configure(as_json=False, file=file)

    get_log().info("call_ended", caller=CALLER, pin="4321", outcome="cancelled")

    assert "call_ended" in file.getvalue()
    assert "outcome=cancelled" in file.getvalue()
    assert "0101" not in file.getvalue()
    assert "4321" not in file.getvalue()
    assert "\x1b" not in file.getvalue()
