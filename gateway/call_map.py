"""The whole call as a tree, drawn from calls that were really played: it cannot say what the line does not do."""

import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from io import StringIO
from itertools import count

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from core.people import People
from gateway.clock import FixedClock
from gateway.municipality import Municipality
from gateway.opening import eve_of_service, recognised
from gateway.rehearsal import OpenTown, cooks_of
from gateway.telephone import greeting_of
from ivr.explore import Explored, play
from ivr.flow import parents_line
from ivr.line import Prompt
from ivr.prompts import Catalogue
from ivr.spoken import words
from ivr.terminal import ScriptedLine, SilentJournal

# Wide enough for one sentence on a line, narrow enough for a page.
WIDTH = 118
# The longest errand by a recognised number: suspend, until a date, the date, confirm.
DEPTH_MAX = 6

# In every school year, so that the suspension that ends on it is one.
_A_DATE = "0412"
_KEYS_OF = {
    "offer-cancel": "1",
    "offer-bland": "2",
    "offer-suspend": "3",
    "offer-resume": "4",
    "offer-undo-cancel": "5",
    "offer-undo-bland": "5",
    "offer-undo-suspend": "5",
    "offer-undo-resume": "5",
    "offer-undo": "5",
    "offer-more": "6",
    "offer-language": "8",
}
# What is asked again and again; the tree says so instead of growing for ever.
_OF_NO_MATTER = re.compile(
    r"state|day-state|no-more-days|not-changed|for-pupil|.*_.*|offer-language|presence-.*|kitchen-(?!keys).*"
)


@dataclass(frozen=True, slots=True)
class Node:
    """What is heard after a key, and where each next key leads; `seen` where the tree shows that question already."""

    heard: tuple[str, ...]
    said: tuple[Callable[[Catalogue], str], ...]
    seen: bool = False
    outcome: str | None = None
    keys: dict[str, "Node"] = field(default_factory=dict)

    def text(self, catalogue: Catalogue) -> str:
        return " ".join(filter(None, (say(catalogue) for say in self.said)))


@dataclass(frozen=True, slots=True)
class CallTree:
    """The calls of one invented family in each situation a caller can be in."""

    situations: dict[str, Node]

    def rich(self, catalogue: Catalogue) -> Tree:
        tree = Tree("☎", guide_style="dim")
        for title, node in self.situations.items():
            branch = tree.add(Text(title, style="bold"))
            _grow(branch, node, catalogue)
        return tree

    def document(self, catalogue: Catalogue) -> dict[str, object]:
        return {title: _document(node, catalogue) for title, node in self.situations.items()}


def call_tree(open_town: OpenTown, people: People, town: Municipality) -> CallTree:
    """Play the calls of a town's own people, on the evening before its first day, and put them together."""
    evening = eve_of_service([town], datetime(town.town.calendar.service.first.year, 1, 1, tzinfo=UTC))
    known = list(recognised(people))
    one = next((number for number, pupils in known if len(pupils) == 1), None)
    several = next((number for number, pupils in known if len(pupils) > 1), None)
    coded = next(
        (
            (pupil.user_code, pin)
            for pupil in people.pupils
            for guardian in pupil.guardians
            if (pin := people.guardians[guardian].pin)
        ),
        ("", ""),
    )
    cook = next(((cook.code, cook.pin) for cook in cooks_of(town, people).cooks if cook.pin), None)
    situations: dict[str, tuple[str | None, datetime, int]] = {}
    if one:
        situations["number recognised, one pupil"] = (one, evening, DEPTH_MAX)
    if several:
        situations["number recognised, several pupils"] = (several, evening, 3)
    situations["number not recognised"] = (None, evening, 2)
    if one:
        situations["outside the window"] = (one, evening - timedelta(hours=6), 1)
    tree = {
        title: _explored(_Caller(open_town, town.key, number, at, coded), depth)
        for title, (number, at, depth) in situations.items()
    }
    if cook:
        tree["a cook"] = _explored(_Caller(open_town, town.key, None, evening, cook), 3)
    return CallTree(tree)


def svg(tree: CallTree, catalogue: Catalogue) -> str:
    """The tree as a picture, without a font or anything else from outside."""
    console = Console(record=True, width=WIDTH, file=StringIO())
    console.print(tree.rich(catalogue))
    plain = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    return console.export_svg(title="Pronto Mensa", code_format=plain, unique_id="call-map")


def _grow(tree: Tree, node: Node, catalogue: Catalogue) -> None:
    tree.add(Text(node.text(catalogue), style="cyan"))
    for key, child in node.keys.items():
        if child.seen:
            branch = tree.add(Text.assemble((f"{key} ", "bold green"), (child.text(catalogue), "cyan"), (" ↩", "dim")))
            continue
        branch = tree.add(Text(key, style="bold green"))
        _grow(branch, child, catalogue)
    if node.outcome:
        tree.add(Text(node.outcome, style="magenta"))


def _document(node: Node, catalogue: Catalogue) -> dict[str, object]:
    return {
        "heard": list(node.heard),
        "words": node.text(catalogue),
        "again": node.seen,
        "outcome": node.outcome,
        "keys": {key: _document(child, catalogue) for key, child in node.keys.items()},
    }


def _explored(caller: "_Caller", depth: int) -> Node:
    """Every question stands where it is reached with the fewest keys; further ways to it only point there."""
    seen: set[frozenset[str]] = set()
    root: dict[str, Node] = {}
    waiting: deque[tuple[dict[str, Node], tuple[str, ...], int]] = deque([(root, (), 0)])
    while waiting:
        place, keyed, heard_before = waiting.popleft()
        call = play(caller.call, keyed)
        new = call.heard[heard_before:]
        ids = tuple(prompt.id for prompt in new)
        asked = frozenset(prompt.id for prompt in call.question or () if not _OF_NO_MATTER.fullmatch(prompt.id))
        key = keyed[-1] if keyed else ""
        if call.question is None:
            place[key] = Node(ids, tuple(map(_saying, new)), outcome=call.word)
        elif asked in seen or len(keyed) >= depth:
            told = tuple(prompt for prompt in new if prompt not in call.question) or new[:1]
            place[key] = Node(ids, tuple(map(_saying, told)), seen=True)
        else:
            seen.add(asked)
            place[key] = Node(ids, tuple(map(_saying, new)))
            for next_key in _keys(call, caller.coded):
                waiting.append((place[key].keys, (*keyed, next_key), len(call.heard)))
    return root[""]


def _saying(prompt: Prompt) -> Callable[[Catalogue], str]:
    return lambda catalogue: words(prompt, catalogue)


def _keys(call: Explored, coded: tuple[str, str]) -> Sequence[str]:
    """The keys that the question offers."""
    asked = [prompt.id for prompt in call.question or ()]
    if "enter-code" in asked:
        return (coded[0],)
    if "enter-pin" in asked:
        return (coded[1], _wrong(coded[1]))
    if "kitchen-keys" in asked:
        return ("6", "9")
    if "enter-date" in asked:
        return (_A_DATE,)
    if {"suspend-how", "resume-how", "confirm-keys"} & set(asked):
        return ("1", "2")
    if "choose-all" in asked:
        return ("1", "9")
    offered = [_KEYS_OF[each] for each in asked if each in _KEYS_OF]
    if len(call.words) > (2 if coded[0] in call.words else 0):
        # What is always offered is shown where it is offered first.
        return [key for key in offered if key not in {"6", "8"}]
    return (*offered, "0") if "offer-more" in asked else offered


def _wrong(pin: str) -> str:
    return "".join("1" if digit == "0" else "0" for digit in pin)


@dataclass(frozen=True, slots=True)
class _Caller:
    """Somebody who calls at one instant; every call is on fresh data."""

    open_town: OpenTown
    town: str
    number: str | None
    at: datetime
    coded: tuple[str, str]

    async def call(self, line: ScriptedLine) -> str:
        opened = self.open_town(self.town)
        keys = count()
        desks = replace(opened.desks.for_calls(FixedClock(self.at)), new_key=lambda: f"key-{next(keys)}")
        return await parents_line(line, SilentJournal(), greeting_of(opened.municipality), desks, self.number, "map")
