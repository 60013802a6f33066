"""The words of AGI: headers and replies in, commands out. Nothing here touches a socket, a clock or the call flow.

What Asterisk does with them stands in its `res/res_agi.c` and `apps/app_read.c` (branch 22).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

# `AGI_BUF_LEN` in res_agi.c is 2048 with its closing zero; what is longer than 2047 bytes with its newline is
# cut there and the rest taken for the next command.
COMMAND_BYTES_MAX = 2046
# What stays for the clips of one command beside its verb, variable, numbers and quotes.
CLIPS_BYTES_MAX = 1900
# `GET VARIABLE` answers with at most 1,023 bytes; a request must also survive the doubling of every quote.
REQUEST_BYTES_MAX = 800
# `AST_MAX_UNIQUEID` and `AST_MAX_EXTENSION` of Asterisk; longer values are not Asterisk's.
UNIQUEID_CHARACTERS_MAX = 150
NUMBER_CHARACTERS_MAX = 80
# One argument of the AGI application each; we pass one or two.
ARGUMENTS_MAX = 16
ARGUMENT_CHARACTERS_MAX = 200

# The last key of everything that changes something (call.md).
CONFIRMING_KEY = "1"

# The two questions Asterisk opens a connection for, as they stand behind `agi://HOST:PORT/`.
ROUTE_LINE = "line"
ROUTE_HUNGUP = "hungup"

_UNIQUEID = re.compile(rf"[A-Za-z0-9._:-]{{1,{UNIQUEID_CHARACTERS_MAX}}}", re.ASCII)
# No `&`, `,`, `|`, quotes or spaces: each of them would end the clip's name in the middle of a Read.
_CLIP = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+-]*", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_CONFIRM = "confirm-"


class NotAgi(Exception):  # noqa: N818 - a peer that is no Asterisk is no error of ours
    """Raised for a header that no Asterisk sends; the message is one word for the log."""


@dataclass(frozen=True, slots=True)
class IncomingCall:
    """What Asterisk said of a call when it opened the connection, bounded and without control characters.

    `caller` is None for a withheld, unknown or empty number. `dialled` is `agi_extension` as it came: the door makes it E.164.
    """

    uniqueid: str
    dialled: str
    caller: str | None
    language: str | None
    route: str
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HungUpCall:
    """A confirmation that was keyed in the moment of hanging up, as the hangup handler found it (R18).

    `dialled` is the number of the call, as `IncomingCall.dialled` was. `request` is what the flow gave to
    `before_confirming`; `request_id` is its digest, equal for equal requests. `saved` is `IVR_SAVED` as it stood:
    empty, `pending`, or the receipts of an earlier change of the same call.
    """

    uniqueid: str
    dialled: str
    request_id: str
    request: str
    keys: str
    saved: str


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer to one command: `200 result=1 (value)`. `value` is None where the answer has no parentheses."""

    code: int
    result: str
    value: str | None = None


def incoming_call(header: bytes) -> IncomingCall:
    """The call that a header speaks of; raises `NotAgi`.

    Asterisk writes values as it got them from the network: a caller's name may be Latin-1, and is not looked at anyway.
    """
    fields = _fields(header)
    if "agi_request" not in fields and "agi_network" not in fields:
        raise NotAgi("no_agi_request")
    uniqueid = fields.get("agi_uniqueid", "")
    if not _UNIQUEID.fullmatch(uniqueid):
        raise NotAgi("bad_uniqueid")
    return IncomingCall(
        uniqueid=uniqueid,
        dialled=fields.get("agi_extension", "")[:NUMBER_CHARACTERS_MAX],
        caller=_caller(fields),
        language=fields.get("agi_language", "")[:ARGUMENT_CHARACTERS_MAX] or None,
        # A query string is none of the route; `agi://HOST/line?x=1` is the line.
        route=fields.get("agi_network_script", "").partition("?")[0].strip("/"),
        arguments=tuple(_arguments(fields)),
    )


def _fields(header: bytes) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in header.split(b"\n"):
        name, colon, value = line.partition(b":")
        if colon:
            # The first of a name counts: nothing later can overrule what Asterisk itself wrote.
            fields.setdefault(_text(name).strip(), _CONTROL.sub("", _text(value)).strip())
    return fields


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _caller(fields: Mapping[str, str]) -> str | None:
    number = fields.get("agi_callerid", "")[:NUMBER_CHARACTERS_MAX]
    # Bits 6 and 7 of the presentation: 0x20 withheld by the caller, 0x40 not available (Q.931, Asterisk's callerid.h).
    presentation = fields.get("agi_callingpres", "0")
    withheld = presentation.isascii() and presentation.isdigit() and int(presentation[:4]) & 0x60 != 0
    return number if not withheld and any(character.isdigit() for character in number) else None


def _arguments(fields: Mapping[str, str]) -> Iterator[str]:
    for position in range(1, ARGUMENTS_MAX + 1):
        argument = fields.get(f"agi_arg_{position}")
        if argument is None:
            return
        yield argument[:ARGUMENT_CHARACTERS_MAX]


def quoted(argument: str) -> str:
    """`argument` as one argument of a command, whatever it holds.

    A control character would end the command and begin another one; none has a business here, so it raises ValueError.
    """
    if _CONTROL.search(argument):
        raise ValueError(f"an AGI argument of {len(argument)} characters holds a control character; nothing was sent")
    escaped = argument.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def command(verb: str, *arguments: str) -> str:
    """The command line `verb "argument" …`; raises ValueError where Asterisk would cut it."""
    line = " ".join((verb, *map(quoted, arguments)))
    size = len(line.encode())
    if size > COMMAND_BYTES_MAX:
        raise ValueError(
            f"{verb}: a command of {size} bytes; Asterisk takes at most {COMMAND_BYTES_MAX}; nothing was sent"
        )
    return line


def clip_parts(clips: Sequence[str]) -> list[str]:
    """The clips joined by `&` for one command each, in as few parts as fit; an empty list is one empty part.

    Raises ValueError for a clip whose name would be read as something else.
    """
    parts: list[str] = []
    current = ""
    for clip in clips:
        if not _CLIP.fullmatch(clip) or len(clip) > CLIPS_BYTES_MAX:
            raise ValueError(f"clip {clip[:80]!r}: expected letters, digits and _./+- only; nothing was played")
        if current and len(current) + 1 + len(clip) > CLIPS_BYTES_MAX:
            parts.append(current)
            current = clip
        else:
            current = f"{current}&{clip}" if current else clip
    return [*parts, current]


def request_id(request: str) -> str:
    """The digest by which a request left with Asterisk is known again, and seen to be whole."""
    return sha256(request.encode()).hexdigest()[:32]


def asked(request: str) -> str:
    """What stands in `IVR_ASKED` while the confirmation of `request` is asked."""
    return f"{_CONFIRM}{request_id(request)}"


def checked_request(request: str) -> str:
    """`request` as it may be left with Asterisk: printable ASCII of at most 800 bytes. Raises ValueError."""
    if not request.isascii() or not request.isprintable() or not 0 < len(request) <= REQUEST_BYTES_MAX:
        raise ValueError(
            f"a request of {len(request)} characters; expected 1 to {REQUEST_BYTES_MAX} of printable ASCII; nothing was asked"
        )
    return request


def parsed_reply(line: str) -> Reply | None:
    """The reply in `line`, or None where it is none.

    `200 result=`, `200 result= (timeout)` and `200 result=1 (a) (b)` are all told apart; the value may hold anything.
    """
    code, _, rest = line.partition(" ")
    if len(code) != 3 or not code.isascii() or not code.isdigit():
        return None
    if not rest.startswith("result="):
        # 510, 511 and 520 say their reason in words.
        return Reply(int(code), rest) if code != "200" else None
    result, space, tail = rest[len("result=") :].partition(" ")
    opening, closing = tail.find("("), tail.rfind(")")
    value = tail[opening + 1 : closing] if space and 0 <= opening < closing else None
    return Reply(int(code), result, value)
