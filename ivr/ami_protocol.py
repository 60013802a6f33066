"""The bytes of AMI: what Asterisk sends in, messages out. Nothing here touches a socket or panoramisk.

A message is lines `Name: value` closed by an empty line; the first line of a connection is the banner. Bytes are cut into lines
before they are decoded, so that a letter of two bytes may arrive in two pieces.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

BANNER = b"Asterisk Call Manager/"

# Asterisk builds a header line in a buffer that grows, but no value of the events we ask for comes near a page.
LINE_BYTES_MAX = 8192
# A channel event has about twenty headers; ten times that is not an event any more.
MESSAGE_LINES_MAX = 200
MESSAGE_BYTES_MAX = 65536


class AmiGarbage(Exception):  # noqa: N818 - a peer that is no Asterisk is no error of ours
    """Raised for bytes that no Asterisk sends; the text says what was expected, and never repeats what came."""


@dataclass(frozen=True, slots=True)
class AmiEvent:
    """One event. Header names are in lower case; of a header that stands twice the first counts."""

    name: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def __getitem__(self, header: str) -> str:
        """The header's value; empty when there is none."""
        return self.headers.get(header.lower(), "")


class AmiReader:
    """One connection's bytes, in whatever pieces they come."""

    def __init__(self) -> None:
        self.version: str | None = None
        # The line that has not ended yet, and the lines of the message that has not.
        self._rest = b""
        self._lines: list[bytes] = []
        self._bytes = 0

    def feed(self, piece: bytes) -> list[dict[str, list[str]]]:
        """The messages that `piece` completes, each with the values of its headers by their names as they came.

        Raises `AmiGarbage`; the connection is then of no more use.
        """
        messages: list[dict[str, list[str]]] = []
        lines = piece.split(b"\n")
        lines[0] = self._rest + lines[0]
        self._rest = lines.pop()
        for line in lines:
            self._take_line(line.removesuffix(b"\r"), messages)
        if len(self._rest) > LINE_BYTES_MAX:
            raise AmiGarbage(f"a line of more than {LINE_BYTES_MAX} bytes")
        return messages

    def _take_line(self, line: bytes, messages: list[dict[str, list[str]]]) -> None:
        if len(line) > LINE_BYTES_MAX:
            raise AmiGarbage(f"a line of more than {LINE_BYTES_MAX} bytes")
        if self.version is None:
            if not line.startswith(BANNER):
                raise AmiGarbage(f"a first line that does not start with {BANNER.decode()!r}")
            self.version = line.removeprefix(BANNER).decode("utf-8", "replace").strip()
        elif line:
            self._lines.append(line)
            self._bytes += len(line)
            if len(self._lines) > MESSAGE_LINES_MAX or self._bytes > MESSAGE_BYTES_MAX:
                raise AmiGarbage(f"a message of more than {MESSAGE_LINES_MAX} lines or {MESSAGE_BYTES_MAX} bytes")
        elif self._lines:
            headers = _headers(b"\n".join(self._lines).decode("utf-8", "replace").split("\n"))
            self._lines, self._bytes = [], 0
            if headers:
                messages.append(headers)


def _headers(lines: list[str]) -> dict[str, list[str]]:
    headers: dict[str, list[str]] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon and name:
            headers.setdefault(name, []).append(value.removeprefix(" "))
    return headers


def event_of(message: Mapping[str, list[str]]) -> AmiEvent | None:
    """The event that a message is, None for a response or for lines that are neither."""
    headers: dict[str, str] = {}
    for name, values in message.items():
        headers.setdefault(name.lower(), values[0])
    name = headers.pop("event", "")
    return AmiEvent(name, headers) if name else None


def is_one_line(text: str) -> bool:
    """Whether `text` can stand in an action: a line end would begin another header, or another action."""
    return not any(character in text for character in "\r\n\0")
