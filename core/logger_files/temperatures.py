"""Parser of temperatures: `4.5`, `4,5`, `4.5 °C`, `−18.5℃`, and the signs for a failed reading."""

import re
import unicodedata
from decimal import Decimal
from typing import NamedTuple

from config.localized_message import LocalizedMessage
from core.ids import Centi
from core.logger_files.problems import message

COLDEST, HOTTEST = Decimal(-200), Decimal(200)
"""°C; beyond these a number in a file is a mistake."""
_FAILED = re.compile(r"-*|N/?A|NULL|ERR(OR)?|OPEN|断线|断开|故障|无数据|离线", re.IGNORECASE)
"""Texts for a failed reading."""
_TEMPERATURE = re.compile(r"(?P<number>[+-]? ?\d{1,6}(?:[.,]\d{1,12})?) ?(?:°? ?C|摄氏度|度)?", re.IGNORECASE)
_OTHER_SCALES = {
    "fahrenheit": re.compile(r".*\d ?(?:° ?F|F|华氏度)", re.IGNORECASE),
    "kelvin": re.compile(r".*\d ?(?:° ?K|K|开尔文)", re.IGNORECASE),
}
_DASHES = str.maketrans("−–‒—", "----")


class Temperature(NamedTuple):
    """Value of a cell; None for a failed reading."""

    value: Centi | None
    rounded: bool = False


def plain(cell: str) -> str:
    """Return a cell with full-width signs, dashes and blanks as ASCII has them."""
    return re.sub(r"\s+", " ", unicodedata.normalize("NFKC", cell).translate(_DASHES)).strip()


def parse_temperature(cell: str) -> Temperature | LocalizedMessage:
    """Return the temperature of a cell, or the problem with it."""
    text = plain(cell)
    if _FAILED.fullmatch(text):
        return Temperature(None)
    for scale, pattern in _OTHER_SCALES.items():
        if pattern.fullmatch(text):
            return message(scale)
    found = _TEMPERATURE.fullmatch(text)
    if found is None:
        return message("no_temperature")
    degrees = Decimal(found["number"].replace(",", ".").replace(" ", ""))
    if not COLDEST <= degrees <= HOTTEST:
        return message("beyond", coldest=COLDEST, hottest=HOTTEST)
    hundredths = degrees * 100
    return Temperature(Centi(round(hundredths)), rounded=hundredths != hundredths.to_integral_value())
