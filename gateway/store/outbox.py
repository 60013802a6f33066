"""The outbox, the gateways and the cooks in a database: their statements, and their rows as values."""

import json

from sqlalchemy import Select, bindparam, delete, insert, select, update

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
SELECT_DUE_MESSAGES = (
    _MESSAGE.where(messages.c.state == MessageState.WAITING.value, messages.c.due <= bindparam("now"))
    .order_by(messages.c.due, messages.c.id)
    .limit(bindparam("most"))
)
_NEWEST_MESSAGES = _MESSAGE.order_by(messages.c.id.desc()).limit(bindparam("most"))
SELECT_MESSAGES: dict[bool, Select[tuple[object, ...]]] = {
    False: _NEWEST_MESSAGES,
    True: _NEWEST_MESSAGES.where(messages.c.state == bindparam("state")),
}
SELECT_MESSAGE_STATE = select(messages.c.state).where(messages.c.id == bindparam("id"))
INSERT_MESSAGE = insert(messages)
UPDATE_MESSAGE = update(messages).where(messages.c.id == bindparam("of"))

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
