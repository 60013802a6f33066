"""Where log lines go and what may stand in them: one JSON object a line, numbers masked, nothing that was keyed as a secret.

Whoever logs is to pass no personal data in the first place. What this module takes out is a second fence.
"""

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from datetime import date
from typing import Any, TextIO

import structlog

from gateway.numbers import mask_number

# Fields that hold a telephone number whatever the value looks like.
NUMBER_FIELDS = frozenset({"number", "caller", "caller_id", "callerid", "phone"})
# Fields that could hold what a caller keyed, or what opens a door. Their names stay, so that the mistake is found.
SECRET_FIELDS = frozenset(
    {"pin", "pins", "code", "codes", "user_code", "keys", "digits", "secret", "password", "token", "auth_key"}
)
REMOVED = "(removed)"
# A value nested deeper than this is a structure that nobody meant to log.
DEPTH_MAX = 4

# A number in E.164 within a sentence, such as the message of an exception. Masked ones have stars, and stay as they are.
_E164 = re.compile(r"\+[1-9]\d{7,14}(?!\d)")
# These tell each request with its address, which for Telegram holds the bot's token.
_TALKATIVE = ("httpx", "httpcore", "aiohttp.access", "telegram", "alembic", "asyncio", "panoramisk")


def configure(*, as_json: bool, level: str = "info", file: TextIO | None = None) -> None:
    """Send every log line of this process, other libraries' too, to `file` (standard error by default).

    `level` is `debug`, `info`, `warning` or `error`; raises ValueError for another word. Without `as_json` lines are for reading.
    """
    names = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
    if level not in names:
        raise ValueError(f"log level: {level!r}; expected one of {', '.join(names)}; nothing was set up")
    stream = sys.stderr if file is None else file
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    # Tracebacks become text before the fence, since a message in them may name a number.
    written: list[structlog.typing.Processor] = [
        structlog.processors.format_exc_info,
        without_personal_data,
        _renderer(as_json, stream),
    ]
    structlog.configure(
        processors=[*shared, *written],
        wrapper_class=structlog.make_filtering_bound_logger(names[level]),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *written],
        )
    )
    logging.basicConfig(handlers=[handler], level=names[level], force=True)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(names[level], logging.WARNING))


def get_log(**fields: object) -> structlog.typing.FilteringBoundLogger:
    """A log whose every line has `fields`; it goes where `configure` last said."""
    # Bound here and now: the proxy that `get_logger` gives would be bound anew with every line.
    log: structlog.typing.FilteringBoundLogger = structlog.get_logger().bind(**fields)
    return log


def without_personal_data(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The structlog processor that masks numbers and takes secrets out, by the names of fields and the look of values."""
    for name, value in event.items():
        event[name] = _fenced(name, value, DEPTH_MAX)
    return event


def _fenced(name: str, value: object, depth: int) -> object:
    bare = name.lower()
    if value is None or isinstance(value, bool):
        return value
    if bare in SECRET_FIELDS:
        return REMOVED
    if bare in NUMBER_FIELDS:
        return _masked(value)
    if isinstance(value, str):
        return _E164.sub(lambda found: mask_number(found.group()), value) if "+" in value else value
    if isinstance(value, Mapping):
        if not depth:
            return REMOVED
        return {str(each): _fenced(str(each), inner, depth - 1) for each, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_fenced("", inner, depth - 1) for inner in value] if depth else REMOVED
    if isinstance(value, int | float):
        return value
    if isinstance(value, date):
        return value.isoformat()
    return _fenced("", repr(value), depth)


def _masked(value: object) -> str:
    # What was masked already has stars, and stays readable.
    text = str(value)
    return text if "*" in text or not any(character.isdigit() for character in text) else mask_number(text)


def _renderer(as_json: bool, stream: TextIO) -> structlog.typing.Processor:
    if as_json:
        return structlog.processors.JSONRenderer(ensure_ascii=False)
    return structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback)
