"""The words of AGI: headers, quoting, replies, the length of a command."""

import pytest

from ivr.agi_protocol import (
    CLIPS_BYTES_MAX,
    COMMAND_BYTES_MAX,
    REQUEST_BYTES_MAX,
    NotAgi,
    Reply,
    asked,
    checked_request,
    clip_parts,
    command,
    incoming_call,
    parsed_reply,
    quoted,
)
from tests.asterisk_double import agi_header, parsed_arguments


def test_a_header_becomes_a_call() -> None:
    call = incoming_call(agi_header(dialled="800000100", caller="+390350000101", arguments=("a", "b")))

    assert (call.uniqueid, call.dialled, call.caller) == ("1763917800.1", "800000100", "+390350000101")
    assert (call.route, call.language, call.arguments) == ("line", "it", ("a", "b"))


@pytest.mark.parametrize("caller", ["", "unknown", "anonymous", "Anonymous"])
def test_a_caller_without_a_number_is_nobody(caller: str) -> None:
    assert incoming_call(agi_header(caller=caller)).caller is None


@pytest.mark.parametrize(("presentation", "is_known"), [(0, True), (3, True), (32, False), (35, False), (67, False)])
def test_a_withheld_number_is_not_looked_at(presentation: int, is_known: bool) -> None:
    assert (incoming_call(agi_header(presentation=presentation)).caller is not None) is is_known


@pytest.mark.parametrize("name", ["Nicolò".encode("latin-1"), "Nicolò".encode(), b"\xff\xfe\x00", b"a: b: c"])
def test_a_name_in_whatever_letters_does_not_drop_the_call(name: bytes) -> None:
    assert incoming_call(agi_header(name=name)).dialled == "800000100"


@pytest.mark.parametrize("route", ["line", "line?town=roccachiara", "line/", "/line?x=1&y=2"])
def test_a_query_string_is_none_of_the_route(route: str) -> None:
    assert incoming_call(agi_header(route=route)).route == "line"


def test_a_later_field_cannot_overrule_what_asterisk_wrote_first() -> None:
    header = agi_header(arguments=("1",)).rstrip(b"\n") + b"\nagi_callerid: +390350000999\n\n"

    assert incoming_call(header).caller == "+390350000101"


def test_control_characters_of_a_header_go_no_further() -> None:
    assert incoming_call(agi_header(dialled="800\r\x00\x1b[2J100")).dialled == "800[2J100"


@pytest.mark.parametrize("uniqueid", ["", "a b", "é", "x" * 151, "1;2"])
def test_a_header_without_a_usable_uniqueid_is_no_call(uniqueid: str) -> None:
    with pytest.raises(NotAgi, match="bad_uniqueid"):
        incoming_call(agi_header(uniqueid=uniqueid))


@pytest.mark.parametrize("header", [b"\n\n", b"GET / HTTP/1.1\r\nHost: x\r\n\n", b"\x16\x03\x01\n\n", b"HANGUP\n\n"])
def test_what_is_not_from_asterisk_is_told_by_its_header(header: bytes) -> None:
    with pytest.raises(NotAgi, match="no_agi_request"):
        incoming_call(header)


@pytest.mark.parametrize(
    "argument",
    ["", "plain", "two words", 'a "quoted" word', "back\\slash", '\\"', "\\", "tab is not", "${PIN}", "ò,&|'"],
)
def test_an_argument_arrives_as_it_was_whatever_it_holds(argument: str) -> None:
    line = command("SET VARIABLE X", argument)

    assert parsed_arguments(line) == ["SET", "VARIABLE", "X", argument]


@pytest.mark.parametrize("argument", ["a\nHANGUP", "a\r\nHANGUP", "a\x00b", "\x7f", "\t"])
def test_no_argument_ends_a_command_and_begins_another(argument: str) -> None:
    with pytest.raises(ValueError, match="control character"):
        quoted(argument)


def test_a_command_that_asterisk_would_cut_in_two_is_refused() -> None:
    fits = "x" * (COMMAND_BYTES_MAX - len('SET VARIABLE X ""'))

    assert len(command("SET VARIABLE X", fits)) == COMMAND_BYTES_MAX
    with pytest.raises(ValueError, match="2047 bytes"):
        command("SET VARIABLE X", fits + "x")


def test_few_clips_are_one_command_and_many_are_as_few_as_fit() -> None:
    many = [f"it/names/pupil-{number:04}" for number in range(300)]

    parts = clip_parts(many)

    assert clip_parts(["a", "b"]) == ["a&b"]
    assert clip_parts([]) == [""]
    assert "&".join(parts).split("&") == many
    assert len(parts) == -(-len("&".join(many)) // CLIPS_BYTES_MAX)
    assert all(len(command("EXEC Read", f"IVR_KEYS,{part},32,,1")) <= COMMAND_BYTES_MAX for part in parts)


@pytest.mark.parametrize("clip", ["", "a&b", "a,b", "a b", 'a"', "../../etc/passwd", "a\nb", "${PIN}", "è", "x" * 2000])
def test_a_clip_that_would_be_read_as_something_else_is_refused(clip: str) -> None:
    with pytest.raises(ValueError, match="clip"):
        clip_parts(["ok", clip])


@pytest.mark.parametrize("request_text", ["", "è", "a\nb", "a\x7f", "x" * (REQUEST_BYTES_MAX + 1)])
def test_a_request_that_could_not_come_back_whole_is_refused(request_text: str) -> None:
    with pytest.raises(ValueError, match="request of"):
        checked_request(request_text)


def test_the_longest_and_most_hostile_request_fits_one_command() -> None:
    request_text = '"\\' * (REQUEST_BYTES_MAX // 2)

    assert parsed_arguments(command("SET VARIABLE IVR_REQUEST", checked_request(request_text)))[3] == request_text


def test_a_request_is_known_again_and_seen_to_be_whole() -> None:
    assert asked("1;a;b") == asked("1;a;b")
    assert asked("1;a;b") != asked("1;a;")
    assert asked("1;a;b").startswith("confirm-")


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("200 result=0", Reply(200, "0")),
        ("200 result=1", Reply(200, "1")),
        ("200 result=-1", Reply(200, "-1")),
        ("200 result=", Reply(200, "")),
        ("200 result= (timeout)", Reply(200, "", "timeout")),
        ("200 result=1 (|TIMEOUT)", Reply(200, "1", "|TIMEOUT")),
        ("200 result=1 (12|OK)", Reply(200, "1", "12|OK")),
        ("200 result=1 ()", Reply(200, "1", "")),
        ("200 result=1 (a) (b=-1)", Reply(200, "1", "a) (b=-1")),
        ("200 result=1 (hangup)", Reply(200, "1", "hangup")),
        ("510 Invalid or unknown command", Reply(510, "Invalid or unknown command")),
        ("511 Command Not Permitted on a dead channel", Reply(511, "Command Not Permitted on a dead channel")),
        ("520 End of proper usage.", Reply(520, "End of proper usage.")),
    ],
)
def test_every_reply_is_told_from_the_others(line: str, reply: Reply) -> None:
    assert parsed_reply(line) == reply


@pytest.mark.parametrize(
    "line", ["", "HANGUP", "200", "200 ", "200 hello", "20 result=1", "2000 result=1", "²00 result=1"]
)
def test_what_is_no_reply_is_none(line: str) -> None:
    assert parsed_reply(line) is None
