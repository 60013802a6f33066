"""The outbox, the gateways and the cooks in a database: their statements, and their rows as values."""

import json
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Select, Update, bindparam, delete, func, insert, literal_column, select, update

from core.people import CookId, UserCode
from core.ports import Cook, MessageKind, NewMessage
from gateway.store import rows
from gateway.store.port import Message, MessageState, Node
from gateway.store.tables import cooks, messages, municipalities, nodes

_MESSAGE_COLUMNS = ("id", "key", "kind", "about", "created", "state", "tries", "due", "fault", "sent")
_MESSAGE = select(*(messages.c[name] for name in _MESSAGE_COLUMNS), municipalities.c.key).join_from(
    messages, municipalities, municipalities.c.id == messages.c.municipality
)
SELECT_MESSAGE_BY_KEY = _MESSAGE.where(
    messages.c.municipality == bindparam("municipality"), messages.c.key == bindparam("key")
)

# Words of the statement, not values of it: with them SQLite, too, finds the index of so few among so many.
_IS_WAITING = messages.c.state == literal_column(f"'{MessageState.WAITING.value}'")
_IS_DEAD = messages.c.state == literal_column(f"'{MessageState.DEAD.value}'")
SELECT_DUE_MESSAGES = (
    _MESSAGE.where(_IS_WAITING, messages.c.due <= bindparam("now"))
    .order_by(messages.c.due, messages.c.id)
    .limit(bindparam("most"))
)
# What another gateway is taking at this moment is left to it.
TAKE_DUE_MESSAGES = SELECT_DUE_MESSAGES.with_for_update(of=messages, skip_locked=True)
_WAITING_SINCE: tuple[ColumnElement[Any], ...] = (func.count(), func.min(messages.c.created))
SELECT_WAITING = select(*_WAITING_SINCE).where(_IS_WAITING)
SELECT_DEAD = select(func.count()).where(_IS_DEAD, messages.c.created >= bindparam("since"))
SELECT_MESSAGE = _MESSAGE.where(messages.c.id == bindparam("id"))


@cache
def select_messages(wanted: frozenset[str]) -> Select[tuple[object, ...]]:
    """The newest messages of the state and the town that are named in `wanted`."""
    conditions = {"state": messages.c.state == bindparam("state"), "town": municipalities.c.key == bindparam("town")}
    return (
        _MESSAGE.where(*(conditions[name] for name in sorted(wanted)))
        .order_by(messages.c.id.desc())
        .limit(bindparam("most"))
    )


SELECT_MESSAGE_STATE = select(messages.c.state).where(messages.c.id == bindparam("id"))
INSERT_MESSAGE = insert(messages)


def _update_message() -> Update:
    """A statement of its own for each use: each is compiled once, with the columns that it then sets."""
    return update(messages).where(messages.c.id == bindparam("of"))


MESSAGE_TAKEN = _update_message()
MESSAGE_SENT = _update_message()
# What is sent neither fails nor dies, however late somebody says so.
MESSAGE_FAILED = _update_message().where(_IS_WAITING)
MESSAGE_DEAD = _update_message().where(_IS_WAITING)
RETRY_MESSAGE = _update_message()

SELECT_COOK = select(cooks.c.id, cooks.c.code, cooks.c.pin_digest, cooks.c.schools, cooks.c.language).where(
    cooks.c.municipality == bindparam("municipality"), cooks.c.code == bindparam("code")
)
SELECT_COOK_CODES = select(cooks.c.id, cooks.c.code, cooks.c.pin_digest).where(
    cooks.c.municipality == bindparam("municipality")
)
INSERT_COOK = insert(cooks)
UPDATE_COOK = update(cooks).where(cooks.c.id == bindparam("of"), cooks.c.municipality == bindparam("within"))
DELETE_COOK = delete(cooks).where(cooks.c.municipality == bindparam("municipality"), cooks.c.code == bindparam("code"))

SELECT_NODES = select(nodes.c.node, nodes.c.seen, nodes.c.settled, nodes.c.configuration, nodes.c.towns).order_by(
    nodes.c.node
)
INSERT_NODE = insert(nodes)
UPDATE_NODE = update(nodes).where(nodes.c.node == bindparam("of"))
DELETE_NODE = delete(nodes).where(nodes.c.node == bindparam("of"))


def message(row: rows.Row) -> Message:
    id_, key, kind, about, created, state, tries, due, fault, sent, town = row
    return Message(
        key,
        MessageKind(kind),
        json.loads(about),
        created,
        id_,
        town,
        MessageState(state),
        tries,
        due,
        fault,
        sent,
    )


def message_values(municipality: int, new: NewMessage) -> rows.Values:
    return {
        "municipality": municipality,
        "key": new.key,
        "kind": new.kind.value,
        "about": rows.fields_text(new.about),
        "created": new.created,
        "state": MessageState.WAITING.value,
        "tries": 0,
        "due": new.created,
        "fault": None,
        "sent": None,
    }


def cook(row: rows.Row) -> Cook:
    id_, code, pin_digest, schools, language = row
    return Cook(CookId(id_), UserCode(code), pin_digest, tuple(json.loads(schools)), language)


def node(row: rows.Row) -> Node:
    return Node(*row)


def node_values(each: Node) -> rows.Values:
    return {
        "seen": each.seen,
        "settled": each.settled,
        "configuration": each.configuration,
        "towns": each.towns,
    }
