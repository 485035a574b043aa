"""CSV answers: streamed page by page, opened rightly by spreadsheet programs, and without formulas.

The file begins with a byte order mark, without which Excel in China reads UTF-8 as GBK. A text that a spreadsheet would
take for a formula is preceded by an apostrophe: names and reports are written by others than whoever opens the file
(OWASP, CSV injection). Numbers stay numbers.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import quote

from fastapi.responses import StreamingResponse

from core.ids import Centi

Cell = str | int | None
_BOM = "\ufeff"
_BEGINS_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


class Degrees(str):
    """A temperature as text. It may begin with a minus, and is no formula."""

    __slots__ = ()


def degrees(value: Centi | None) -> Degrees | None:
    """Return a temperature with two decimals, °C."""
    return None if value is None else Degrees(f"{value / 100:.2f}")


def csv_answer(filename: str, header: Sequence[str], pages: Iterable[Iterable[Sequence[Cell]]]) -> StreamingResponse:
    """Return a file for download whose rows come in pages, each sent before the next is asked for."""
    return StreamingResponse(
        _chunks(header, pages),
        media_type="text/csv; charset=utf-8",
        headers={
            "Content-Disposition": f"attachment; filename*=UTF-8''{quote(filename)}",
            "Cache-Control": "no-store",
        },
    )


def _chunks(header: Sequence[str], pages: Iterable[Iterable[Sequence[Cell]]]) -> Iterator[str]:
    yield _BOM + _lines([header])
    for page in pages:
        if lines := _lines(page):
            yield lines


def _lines(rows: Iterable[Sequence[Cell]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)  # lines end in CR LF (RFC 4180)
    for row in rows:
        writer.writerow([_safe(cell) for cell in row])
    return text.getvalue()


def _safe(cell: Cell) -> Cell:
    if isinstance(cell, str) and not isinstance(cell, Degrees) and cell.lstrip(" ").startswith(_BEGINS_FORMULA):
        return f"'{cell}"
    return cell
