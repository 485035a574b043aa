"""Form 3 (附表3): which probe measures which fridge through which gateway, after the hardware was installed."""

from collections.abc import Iterable

from core.devices.kinds_and_labels import CHINESE, ZoneKind, parse_probe
from core.devices.tables import Zone
from core.units.rights import Right
from core.units.unit_levels import Level
from core.workflow import cells
from core.workflow.device_forms import device_cells
from core.workflow.device_forms.device_effects import BindInstalled, RegisterGateway, RegisterProbe, RegisterZone
from core.workflow.device_forms.device_rules import once
from core.workflow.device_forms.hardware_installation import HARDWARE_INSTALLATION
from core.workflow.device_forms.header_and_footer import FILLED_BY, UNIT_HEADER
from core.workflow.device_forms.zone_to_install import ZoneToInstall
from core.workflow.effects import Effect
from core.workflow.form import FORM_FIELDS, CellFault, Form, FormRow
from core.workflow.form_check import each_row
from core.workflow.kinds import ApplicationKind, FormContext
from core.workflow.messages import message
from core.workflow.route import up_to

_SUFFIXES = {CHINESE[kind]: kind for kind in ZoneKind}


def zone_of_row(row: FormRow) -> ZoneToInstall | None:
    """Return the zone of a row; None if neither the fridge's name nor the probe's label says which kind it is.

    美菱冰箱冷藏 is the zone 冷藏 of 美菱冰箱. 医用冷藏柜 is a whole name, whose zone the probe's label gives.
    """
    fridge = row["fridge"]
    if isinstance(fridge, int):
        return ZoneToInstall(zone=row.zone("fridge"))
    name = row.text("fridge")
    for suffix, kind in _SUFFIXES.items():
        if name.endswith(suffix) and name != suffix:
            return ZoneToInstall(equipment=name.removesuffix(suffix), kind=kind)
    kind_on_label = parse_probe(row.written["probe"]).zone
    return None if kind_on_label is None else ZoneToInstall(equipment=name, kind=kind_on_label)


def zones_are_known(context: FormContext, form: Form) -> Iterable[CellFault]:
    """Check that the kind of each zone is known, and that fridge and probe don't contradict each other."""
    for row in each_row(form, "fridge", "probe"):
        zone = zone_of_row(row)
        if zone is None:
            yield CellFault(row.number, "fridge", message("zone_unknown", name=row.written["fridge"]))
            continue
        kind = zone.kind if zone.zone is None else context.tx.get_one(Zone, zone.zone).kind
        suffix = parse_probe(row.written["probe"]).zone
        if suffix not in (None, kind):
            problem = message("suffix", probe=row.written["probe"], zone=row.written["fridge"])
            yield CellFault(row.number, "probe", problem)


def no_more_than_filed(context: FormContext, form: Form) -> Iterable[CellFault]:
    """Warn when there are more probes than the unit's form 2 asked for (HW-26)."""
    filed = 0 if context.linked is None else sum(row.integer("probes") for row in context.linked.rows)
    if context.linked is not None and len(form.rows) > filed:
        problem = message("more_than_filed", probes=len(form.rows), filed=filed)
        yield CellFault(FORM_FIELDS, "linked", problem, is_warning=True)


def installation_effects(_form: Form, row: FormRow) -> Iterable[Effect]:
    """Register what isn't known yet, then let the probe measure the zone through the gateway."""
    zone = zone_of_row(row)
    if zone is None:
        return
    code, gateway = row.text("probe"), row.text("gateway")
    yield RegisterZone(zone)
    yield RegisterGateway(gateway)
    yield RegisterProbe(code, gateway)
    yield BindInstalled(code, gateway, zone)


SOFTWARE_INSTALLATION = ApplicationKind(
    code="form3",
    version=1,
    title="冷链监测设备安装申请单（软件）",
    header=UNIT_HEADER,
    footer=FILLED_BY,
    columns=(
        device_cells.zone_to_install("fridge", "冰箱名称"),
        device_cells.gateway_to_install("gateway", "网关号"),
        device_cells.probe_to_install("probe", "探头编码"),
        cells.note("备注"),
    ),
    rules=(zones_are_known, once("probe"), no_more_than_filed),
    linked_kind=HARDWARE_INSTALLATION.code,
    route=up_to(Level.PROVINCE),
    effects=installation_effects,
    executed_with=Right.EXECUTE,
    on_site_with=Right.BIND,
)
