"""The order as papers: the sheet that hangs in the kitchen, and the tray list; as HTML that the printer makes PDFs of.

A paper is tried in the order of its `Layout`s: the sheet says less rather than become too small to be read, and stays one page.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gateway.post.order import Meals, Order
from gateway.post.wording import NO_NAME, copy_words, day_words, kind_words, late_words, meals_words, time_words

# Sizes in points of the type that all others are measured by, each a step of 5 % from the one before; a school's figure is
# 2.3 times that. Figures of a centimetre, a size of 17, are read from two metres with ease.
SIZES = tuple(round(38 * 0.95**step, 2) for step in range(41))
# A digit of the type is this many times its size wide; the page has 538 points, and the figure leaves its name a part of them.
DIGIT_WIDTH, SUM_WIDTH_PT, TOTAL_TIMES = 0.64, 310, 4.2
# What the headings leave of a page.
PAGE_WIDTH_PT, PAGE_HEIGHT_PT = 538, 715
# Class groups smaller than this help nobody who stands at a stove, and schools smaller than this nobody at all.
CLASSES_SIZE_MIN, SCHOOLS_SIZE_MIN = 13, 6
# More lines than a page can hold at the smallest size are not even tried: laying them out would take seconds.
CLASSES_MAX, SCHOOLS_MAX = 250, 150
# The tray list is held in the hand.
TRAYS_SIZE = 12


@dataclass(frozen=True, slots=True)
class Layout:
    """One way to put a paper on pages: the HTML, the sizes of type to try, largest first, and which of them to try first."""

    html: str
    sizes: tuple[float, ...]
    first: int = 0


@dataclass(frozen=True, slots=True)
class Paper:
    """What is to be printed: the first layout that fits into `pages_max` pages, at its largest size that does."""

    layouts: tuple[Layout, ...]
    pages_max: int | None


def sheet(order: Order) -> Paper:
    """The one page that a cook reads across the room."""
    classes = sum(len(school.classes) for school in order.schools)
    details = {
        "classes": (classes <= CLASSES_MAX, CLASSES_SIZE_MIN),
        "schools": (len(order.schools) <= SCHOOLS_MAX, SCHOOLS_SIZE_MIN),
        "totals": (True, 0),
    }
    most = SUM_WIDTH_PT / _width(order.total, TOTAL_TIMES)
    layouts = []
    for detail, (is_possible, least) in details.items():
        sizes = tuple(size for size in SIZES if least <= size <= most)
        if is_possible and sizes:
            layouts.append(Layout(_html("order.html", order, detail), sizes, _guess(order, detail, sizes)))
    return Paper(tuple(layouts), pages_max=1)


def tray_list(order: Order) -> Paper:
    """The trays by school and class, each with its pupil's name; as many pages as it takes."""
    return Paper((Layout(_html("trays.html", order, "trays"), (TRAYS_SIZE,)),), pages_max=None)


def _html(template: str, order: Order, detail: str) -> str:
    return _environment().get_template(template).render(order=order, detail=detail)


def _guess(order: Order, detail: str, sizes: tuple[float, ...]) -> int:
    """About which of the sizes will fill the page, so that it need not be laid out at six to find the one."""
    for index, size in enumerate(sizes):
        wide = PAGE_WIDTH_PT / size
        height = 0.0
        if len(order.schools) > 1 or detail == "totals":
            height += 4.6 + _lines_of(order.meals, wide) * 1.95
        for school in order.schools if detail == "classes" else ():
            rows = -(-len(school.classes) // 5)
            specials = sum(len(group.meals) - 1 for group in school.classes if group.meals)
            height += 2.8 + _lines_of(school.meals, wide) * 1.95 + rows * 1.3 + specials * 0.35
        for school in order.schools if detail == "schools" else ():
            characters = len(school.name) + 13 * (len(school.meals) - 1)
            height += 1.32 * -(-characters * 0.42 // (wide - 3.5))
        if height * size <= PAGE_HEIGHT_PT:
            return index
    return len(sizes) - 1


def _lines_of(meals: tuple[Meals, ...], wide: float) -> int:
    words = sum(len(str(each.count)) + 0.55 * len(kind_words(each.kind, each.diet)) + 1.4 for each in meals)
    return int(-(-words // wide))


def _width(figure: int, times: float) -> float:
    """How wide a figure is that is set so many times the ordinary size, in ordinary sizes."""
    return round(len(str(figure)) * DIGIT_WIDTH * times + 0.3, 2)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["day"] = day_words
    environment.filters["meals"] = meals_words
    environment.filters["time"] = time_words
    environment.globals.update(kind=kind_words, late=late_words, copy=copy_words, no_name=NO_NAME, width=_width)
    return environment
