"""A tree given its shape: pydantic's findings said in the file's own terms, and what is right kept for further checks."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gateway.files.mistakes import Mistake, is_near, one_of, shown
from gateway.files.shapes import Shape
from gateway.files.tree import Listing, Node, Place, Table, Text, Way, find, place_of, place_of_key, without

# Taking a mistake out can bring another to light only in the table around it, and tables are five deep.
ROUNDS_MAX = 10

Model = TypeVar("Model", bound=BaseModel)


def shape(model: type[Model], file: Path, tree: Table) -> tuple[Model, Table, list[Mistake]]:
    """The tree as `model`, the part of it that is right, and every mistake.

    What is wrong is left out: an entry of a table then has its default, an item of a list is not there at all.
    """
    mistakes: list[Mistake] = []
    dropped: set[tuple[Place, str]] = set()
    right = tree
    for round_number in range(ROUNDS_MAX):
        try:
            shaped = model.model_validate(plain_data(model, right))
        except ValidationError as error:
            details = error.errors(include_url=False)
            # What only comes up once something was left out is no mistake of the file.
            if round_number == 0:
                mistakes += [_mistake(model, file, tree, each) for each in details]
            ways = {_unit(way_of(each)) for each in details}
            for way in ways:
                dropped |= {(place_of(right, way[:depth]), str(step)) for depth, step in enumerate(way)}
            right = _pruned(right, ways)
        else:
            break
    else:
        shaped, right = model.model_validate({}), Table(tree.place, ())
    mistakes += _missing(shaped, file, right, (), dropped)
    return shaped, right, mistakes


def plain_data(annotation: Any, node: Node) -> Any:
    """The tree without places and without what has no value: `exceptions:` is left when the last one is taken out."""
    if isinstance(node, Text):
        return node.text
    fields, other = _inside(annotation)
    if isinstance(node, Listing):
        return [plain_data(other, item) for item in node.items]
    return {
        entry.key: plain_data(fields.get(entry.key) if fields else other, entry.value)
        for entry in node.entries
        if entry.key not in fields or not _is_nothing(entry.value)
    }


def _pruned(tree: Table, ways: set[Way]) -> Table:
    if () in ways:
        return Table(tree.place, ())
    pruned = without(tree, frozenset(ways))
    return pruned if isinstance(pruned, Table) else Table(tree.place, ())


def way_of(error: ErrorDetails) -> Way:
    """The way to the value that is wrong; pydantic marks a wrong key by a step of its own."""
    return tuple(step for step in error["loc"] if step != "[key]")


def _unit(way: Way) -> Way:
    """What is left out for a mistake: the outermost list item around it, half of which would mean something else."""
    for index, step in enumerate(way):
        if isinstance(step, int):
            return way[: index + 1]
    return way


def _mistake(model: type[BaseModel], file: Path, tree: Table, error: ErrorDetails) -> Mistake:
    way = way_of(error)
    is_about_key = error["type"] == "extra_forbidden" or error["loc"][-1:] == ("[key]",)
    place = place_of_key(tree, way) if is_about_key else place_of(tree, way)
    key = next((step for step in reversed(way) if isinstance(step, str)), None)
    what = says(model, way, error)
    message = what if key is None or is_about_key else f"{key}: {what}"
    return Mistake(file, place.line, place.column, message)


def says(model: type[BaseModel], way: Way, error: ErrorDetails) -> str:
    """What is wrong and what would be right, in the words of a configuration file."""
    value, limits = error["input"], error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            return f"unknown key {shown(way[-1])}; {one_of(str(way[-1]), _keys(model, way[:-1]))}"
        case "value_error":
            return str(limits["error"])
        case "int_parsing" | "int_type" | "int_from_float" | "int_parsing_size":
            return f"{shown(value)} is no whole number; expected one in digits"
        case "float_parsing" | "float_type" | "finite_number":
            return f"{shown(value)} is no number; expected one in digits"
        case "bool_parsing" | "bool_type":
            return f"{shown(value)} is neither yes nor no; expected yes or no"
        case "greater_than_equal":
            return f"{shown(value)} is too small; expected at least {limits['ge']}"
        case "greater_than":
            return f"{shown(value)} is too small; expected more than {limits['gt']}"
        case "less_than_equal":
            return f"{shown(value)} is too large; expected at most {limits['le']}"
        case "too_long":
            return f"more than {limits['max_length']} entries; expected at most {limits['max_length']}"
        case "list_type" | "tuple_type":
            return f"{shown(value)} is no list; expected one, as [a, b] or with a line `- a` for each"
        case "model_type" | "dict_type":
            return f"{shown(value)} is no table; expected keys with values, as `key: value`"
        case "literal_error":
            return f"{shown(value)} cannot stand here; expected {limits['expected']}"
        case "string_type":
            return f"{shown(value)} is no text; expected a text"
        case _:
            return f"{shown(value)} cannot stand here; expected: {error['msg']}"


def _keys(model: Any, way: Way) -> list[str]:
    """The keys that the table at the end of `way` may have."""
    annotation: Any = model
    for step in way:
        annotation = _annotation_of_step(annotation, step)
    return list(_inside(annotation)[0])


def _annotation_of_step(annotation: Any, step: str | int) -> Any:
    fields, other = _inside(annotation)
    return fields.get(str(step)) if fields else other


# The annotations of our shapes, which are a few dozen, are looked up at every value of every file.
@cache
def _inside(annotation: Any) -> tuple[Mapping[str, Any], Any]:
    """What stands in a table or list: each key of a table with fixed keys, else what every value is."""
    inner = _inner(annotation)
    if isinstance(inner, type) and issubclass(inner, BaseModel):
        return {field.alias or name: field.annotation for name, field in inner.model_fields.items()}, None
    arguments = get_args(inner)
    return {}, arguments[1 if get_origin(inner) is dict else 0] if arguments else None


def _inner(annotation: Any) -> Any:
    """The annotation without `Annotated` and without its None."""
    while get_args(annotation) and get_origin(annotation) not in (dict, list, tuple):
        arguments = [each for each in get_args(annotation) if each is not type(None)]
        annotation = arguments[0]
    return annotation


_CONTAINERS = (BaseModel, dict, list, tuple)


def _missing(value: object, file: Path, tree: Table, way: Way, dropped: set[tuple[Place, str]]) -> list[Mistake]:
    """The keys of `REQUIRED` that are not there, in every table of the file."""
    mistakes: list[Mistake] = []
    match value:
        case BaseModel():
            table = find(tree, way)
            place = place_of(tree, way)
            if isinstance(value, Shape) and (isinstance(table, Table) or not way):
                for key, meaning in value.REQUIRED.items():
                    if not _has_value(find(tree, (*way, key))) and not _was_meant(key, place, dropped):
                        at = place_of_key(tree, (*way, key))
                        mistakes.append(
                            Mistake(file, at.line, at.column, f"{shown(key)} is missing; expected {meaning}")
                        )
            for name, field in type(value).model_fields.items():
                inner = getattr(value, name)
                if isinstance(inner, _CONTAINERS):
                    mistakes += _missing(inner, file, tree, (*way, field.alias or name), dropped)
        case dict():
            for key, inner in value.items():
                if isinstance(inner, _CONTAINERS):
                    mistakes += _missing(inner, file, tree, (*way, key), dropped)
        case list() | tuple():
            for index, inner in enumerate(value):
                if isinstance(inner, _CONTAINERS):
                    mistakes += _missing(inner, file, tree, (*way, index), dropped)
        case _:
            pass
    return mistakes


def _is_nothing(node: Node) -> bool:
    return isinstance(node, Text) and node.text is None


def _has_value(node: Node | None) -> bool:
    match node:
        case None:
            return False
        case Text(_, text):
            return bool(text)
        case Listing(_, items):
            return bool(items)
        case Table(_, entries):
            return bool(entries)


def _was_meant(key: str, place: Place, dropped: set[tuple[Place, str]]) -> bool:
    """Whether this key of the table, or one so like it that its writer meant it, was left out as a mistake already."""
    return any(where == place and (key == other or is_near(other, key)) for where, other in dropped)
