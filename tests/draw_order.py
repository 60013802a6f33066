"""Draw the order of the example town as the picture in the documents: `python tests/draw_order.py docs/order.png`."""

import sys
from pathlib import Path

import pypdfium2

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gateway.files.load import load_town
from gateway.municipality import Municipality
from gateway.post.order import order_of
from gateway.post.papers import sheet
from gateway.post.press import pdf
from tests.orders import BLAND, closing, meals

HOUSE = Path(__file__).resolve().parents[1]
# Wide enough to be read in a page of documents.
WIDTH_PIXELS = 700


def draw(file: Path) -> None:
    town = load_town(HOUSE / "config" / "municipalities" / "roccachiara")
    if not isinstance(town, Municipality):
        raise SystemExit("\n".join(map(str, town)))
    primaria = closing(
        "primaria",
        *(meals("1A", 19), meals("1A", 2, BLAND)),
        *(meals("2A", 21), meals("2A", 1, diet="SG")),
        *(meals("4A", 17), meals("4A", 1, diet="SL")),
        *(meals("5A", 22),),
        order=57,
    )
    secondaria = closing("secondaria", meals("2C", 23), meals("2C", 1, BLAND), meals("2C", 1, diet="NS"), order=57)
    paper = sheet(order_of(town, [primaria, secondaria]))
    document = pypdfium2.PdfDocument(pdf([(each.html, each.sizes, each.first) for each in paper.layouts], 1))
    page = document[0]
    page.render(scale=WIDTH_PIXELS / page.get_width()).to_pil().convert("L").quantize(16).save(file, optimize=True)


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
