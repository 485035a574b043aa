"""Cells that name devices of the filing unit, or devices that are about to be registered there."""

from datetime import date

from core.devices.kinds_and_labels import parse_probe
from core.errors import Invalid
from core.wire.topics import GATEWAY_NUMBER
from core.workflow.device_forms import device_lookup
from core.workflow.kinds import Cell, FormContext
from core.workflow.messages import message


def zone(name: str, title: str) -> Cell:
    """Return a cell with a zone as 名称+温区; it names the zone's id."""
    return Cell(name=name, title=title, read=lambda context, written: device_lookup.zone_called(context, name, written))


def equipment(name: str, title: str) -> Cell:
    """Return a cell with an equipment; it names the equipment's id."""
    return Cell(
        name=name, title=title, read=lambda context, written: device_lookup.equipment_called(context, name, written)
    )


def probe(name: str, title: str) -> Cell:
    """Return a cell with a probe's code, with or without its zone; it names the probe's id."""
    return Cell(
        name=name, title=title, read=lambda context, written: device_lookup.probe_called(context, name, written)
    )


def zone_to_install(name: str, title: str) -> Cell:
    """Return a cell with a zone that need not be registered yet; it names the zone's id, or the name as written."""

    def read(context: FormContext, written: str) -> int | str:
        if not device_lookup.find_zones(context, written):
            return device_lookup.compact(written)
        return device_lookup.zone_called(context, name, written)

    return Cell(name=name, title=title, read=read)


def gateway_to_install(name: str, title: str) -> Cell:
    """Return a cell with a gateway's number, of this unit or new; it names the number."""

    def read(context: FormContext, written: str) -> str:
        if not GATEWAY_NUMBER.fullmatch(written):
            raise Invalid(field=name, value=written, problem=message("gateway_number"))
        there = device_lookup.unit_of_gateway_numbered(context.tx, written, context.now)
        if there not in (None, context.unit.id):
            raise Invalid(field=name, value=written, problem=message("gateway_elsewhere", number=written))
        return written

    return Cell(name=name, title=title, read=read)


def probe_to_install(name: str, title: str) -> Cell:
    """Return a cell with the code of a probe that is new or free; it names the code."""

    def read(context: FormContext, written: str) -> str:
        known = device_lookup.known_probe(context, name, written)
        code = parse_probe(written).code
        if known is not None and device_lookup.zone_of_probe(context.tx, known, context.now) is not None:
            raise Invalid(field=name, value=written, problem=message("probe_bound", code=code))
        return code

    return Cell(name=name, title=title, read=read)


def day(name: str, title: str, *, required: bool = True) -> Cell:
    """Return a cell with a day, such as 2026-04-30, today or later."""

    def read(context: FormContext, written: str) -> str:
        try:
            found = date.fromisoformat(written)
        except ValueError:
            raise Invalid(field=name, value=written, problem=message("day")) from None
        if found < context.today:
            raise Invalid(field=name, value=written, problem=message("past_day"))
        return found.isoformat()

    return Cell(name=name, title=title, read=read, required=required)
