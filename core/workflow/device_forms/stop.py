"""Form 4 (附表4): fridges and probes that are not used any more; each may stop while the other goes on."""

from collections.abc import Iterable
from enum import StrEnum

from core.units.rights import Right
from core.units.unit_levels import Level
from core.workflow import cells
from core.workflow.device_forms import device_cells
from core.workflow.device_forms.device_effects import EndBinding, ReturnProbe, StopEquipment
from core.workflow.device_forms.device_rules import in_equipment, once
from core.workflow.device_forms.header_and_footer import FILLED_BY, UNIT_HEADER
from core.workflow.effects import Effect
from core.workflow.form import CellFault, Form, FormRow
from core.workflow.form_check import each_row
from core.workflow.kinds import ApplicationKind, FormContext
from core.workflow.messages import message
from core.workflow.route import up_to


class StopReason(StrEnum):
    """Reason of form 4 (HW-11)."""

    MERGED = "merged"
    FRIDGE_REPLACED = "fridge_replaced"
    OTHER = "other"


REASONS = {StopReason.MERGED: "机构撤并", StopReason.FRIDGE_REPLACED: "冰箱更换", StopReason.OTHER: "其他"}


def stops_something(_context: FormContext, form: Form) -> Iterable[CellFault]:
    """Check that each row stops the fridge, the probe, or both."""
    for row in each_row(form, "fridge_stopped", "probe_stopped"):
        if not row.is_yes("fridge_stopped") and not row.is_yes("probe_stopped"):
            yield CellFault(row.number, "fridge_stopped", message("changes_nothing"))


def stop_effects(form: Form, row: FormRow) -> Iterable[Effect]:
    """Stop the fridge, free the probe and send it back to the county CDC, as the row says."""
    if row.is_yes("fridge_stopped"):
        yield StopEquipment(row.equipment("fridge"), REASONS[StopReason(str(form["reason"]))])
    if row.is_yes("probe_stopped"):
        yield EndBinding(row.probe("probe"))
        yield ReturnProbe(row.probe("probe"))


STOP = ApplicationKind(
    code="form4",
    version=1,
    title="冷链监测设备停用申请单",
    header=UNIT_HEADER,
    fields=(cells.choice("reason", "停用原因", REASONS),),
    footer=FILLED_BY,
    columns=(
        device_cells.equipment("fridge", "单位使用的冰箱"),
        cells.yes_no("fridge_stopped", "冰箱是否停用"),
        device_cells.probe("probe", "单位使用的探头"),
        cells.yes_no("probe_stopped", "探头是否停用"),
        cells.note("备注"),
    ),
    rules=(stops_something, in_equipment("probe", "fridge"), once("probe")),
    route=up_to(Level.PROVINCE),
    effects=stop_effects,
    executed_with=Right.EXECUTE,
    on_site_with=Right.BIND,
)
