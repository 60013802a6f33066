"""Whatever bytes come over AMI, in whatever pieces: the same messages, or garbage named as such."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivr.ami_protocol import (
    LINE_BYTES_MAX,
    MESSAGE_BYTES_MAX,
    MESSAGE_LINES_MAX,
    AmiGarbage,
    AmiReader,
    event_of,
    is_one_line,
)

NAMES = st.text(st.characters(codec="ascii", categories=("L", "N"), include_characters="-"), min_size=1)
VALUES = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=60)
MESSAGES = st.lists(st.lists(st.tuples(NAMES, VALUES), min_size=1, max_size=8), max_size=6)


def written(messages: Sequence[Sequence[tuple[str, str]]]) -> bytes:
    text = "Asterisk Call Manager/11.0.0\r\n"
    for message in messages:
        text += "".join(f"{name}: {value}\r\n" for name, value in message) + "\r\n"
    return text.encode()


def pieces_of(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


def fed(pieces: Sequence[bytes]) -> list[dict[str, list[str]]]:
    reader = AmiReader()
    return [message for piece in pieces for message in reader.feed(piece)]


@given(MESSAGES, st.lists(st.integers(0, 10_000), max_size=20))
def test_messages_are_the_same_however_their_bytes_are_cut(
    messages: list[list[tuple[str, str]]], cuts: list[int]
) -> None:
    data = written(messages)

    in_pieces = fed(pieces_of(data, cuts))

    assert in_pieces == fed([data]) == fed([bytes([byte]) for byte in data])
    for message, expected in zip(in_pieces, messages, strict=True):
        assert {name: list(values) for name, values in message.items()} == {
            name: [value for other, value in expected if other == name] for name, _ in expected
        }


@given(st.binary(max_size=2000), st.lists(st.integers(0, 10_000), max_size=10))
def test_garbage_gives_messages_or_is_named_and_nothing_else(data: bytes, cuts: list[int]) -> None:
    try:
        messages = fed(pieces_of(b"Asterisk Call Manager/1\r\n" + data, cuts))
    except AmiGarbage:
        return

    for message in messages:
        event = event_of(message)
        assert event is None or event.name


@given(st.binary(min_size=1, max_size=200).filter(lambda data: not b"Asterisk Call Manager/".startswith(data[:22])))
def test_a_first_line_that_is_no_banner_is_garbage(data: bytes) -> None:
    with pytest.raises(AmiGarbage, match="first line"):
        AmiReader().feed(data + b"\r\n")


@given(st.integers(1, 3000))
def test_a_reader_never_keeps_more_than_one_message(size: int) -> None:
    reader = AmiReader()
    reader.feed(b"Asterisk Call Manager/1\r\n")
    lines_max = min(MESSAGE_LINES_MAX, MESSAGE_BYTES_MAX // size)

    with pytest.raises(AmiGarbage, match="a message of more than"):
        reader.feed((b"A: " + b"b" * size + b"\r\n") * (lines_max + 1))


def test_a_line_may_be_as_long_as_the_limit_and_not_a_byte_longer() -> None:
    reader = AmiReader()
    reader.feed(b"Asterisk Call Manager/1\r\n")

    assert reader.feed(b"A: " + b"b" * (LINE_BYTES_MAX - 4) + b"\r\n\r\n")
    with pytest.raises(AmiGarbage, match=f"a line of more than {LINE_BYTES_MAX} bytes"):
        reader.feed(b"A: " + b"b" * (LINE_BYTES_MAX - 2))


def test_of_a_header_that_stands_twice_the_first_counts() -> None:
    reader = AmiReader()

    (message,) = reader.feed(b"Asterisk Call Manager/1\r\nEvent: Hangup\r\nUniqueid: 1.1\r\nUNIQUEID: 2.2\r\n\r\n")

    event = event_of(message)
    assert event is not None
    assert event["Uniqueid"] == "1.1"


@given(st.text(), st.sampled_from("\r\n\0"), st.text())
def test_a_text_with_a_line_end_anywhere_is_not_one_line(before: str, end: str, after: str) -> None:
    assert not is_one_line(before + end + after)
