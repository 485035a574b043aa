"""Rules of the device forms over several cells, and who pays by the warranty."""

from collections import Counter
from collections.abc import Iterable

from core.devices.kinds_and_labels import parse_probe
from core.devices.tables import Probe, Zone
from core.workflow.device_forms.device_lookup import zone_of_probe
from core.workflow.form import CellFault, Form, FormRow
from core.workflow.form_check import each_row
from core.workflow.kinds import FormContext, PayerRule, Rule
from core.workflow.messages import message
from core.workflow.states import Payer


def measures(probe: str, zone: str) -> Rule:
    """Return the rule that the probe of a row measures the zone of that row now (HW-16)."""

    def check(context: FormContext, form: Form) -> Iterable[CellFault]:
        for row in each_row(form, probe, zone):
            if zone_of_probe(context.tx, row.probe(probe), context.now) != row.zone(zone):
                yield CellFault(row.number, probe, message("does_not_measure", probe=row.written[probe]))

    return check


def in_equipment(probe: str, equipment: str) -> Rule:
    """Return the rule that the probe of a row measures a zone of the equipment of that row now."""

    def check(context: FormContext, form: Form) -> Iterable[CellFault]:
        for row in each_row(form, probe, equipment):
            zone = zone_of_probe(context.tx, row.probe(probe), context.now)
            if zone is None or context.tx.get_one(Zone, zone).equipment_id != row.equipment(equipment):
                yield CellFault(row.number, probe, message("does_not_measure", probe=row.written[probe]))

    return check


def suffix_fits(probe: str, zone: str) -> Rule:
    """Return the rule that a zone written behind a probe's code is the kind of the row's zone (HW-29)."""

    def check(context: FormContext, form: Form) -> Iterable[CellFault]:
        for row in each_row(form, probe, zone):
            suffix = parse_probe(row.written[probe]).zone
            if suffix is not None and context.tx.get_one(Zone, row.zone(zone)).kind is not suffix:
                yield CellFault(row.number, probe, message("suffix", probe=row.written[probe], zone=row.written[zone]))

    return check


def unbound_or_freed_here(probe: str, *, freed: str = "probe_before") -> Rule:
    """Return the rule that a probe measures nothing else, or that a row of this same form frees it."""

    def check(context: FormContext, form: Form) -> Iterable[CellFault]:
        freed_here = {row.probe(freed) for row in each_row(form, freed)}
        for row in each_row(form, probe):
            is_free = zone_of_probe(context.tx, row.probe(probe), context.now) is None
            if not is_free and row.probe(probe) not in freed_here:
                yield CellFault(row.number, probe, message("probe_bound", code=row.written[probe]))

    return check


def once(column: str) -> Rule:
    """Return the rule that no two rows name the same thing in a column."""

    def check(_context: FormContext, form: Form) -> Iterable[CellFault]:
        times = Counter(row[column] for row in each_row(form, column))
        for row in each_row(form, column):
            if times[row[column]] > 1:
                yield CellFault(row.number, column, message("twice", name=row.written[column]))

    return check


def by_warranty(probe: str) -> PayerRule:
    """Return the payer of a probe's replacement or repair: the manufacturer up to the last day of the warranty."""

    def payer(context: FormContext, _form: Form, row: FormRow) -> Payer | CellFault:
        if not row.has(probe):
            return CellFault(row.number, probe, message("empty", title=probe))
        warranty_end = context.tx.get_one(Probe, row.probe(probe)).warranty_end
        if warranty_end is None:
            return CellFault(row.number, probe, message("no_warranty", probe=row.written[probe]))
        return Payer.MANUFACTURER if context.today <= warranty_end else Payer.REQUESTING_UNIT

    return payer


def requesting_unit_pays(_context: FormContext, _form: Form, _row: FormRow) -> Payer:
    """Return the payer of additional devices: after the roll-out by the province, the unit that asks for them."""
    return Payer.REQUESTING_UNIT
