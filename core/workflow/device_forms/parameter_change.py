"""Form 1 (附表1): another probe for a fridge, another fridge for a probe, or the repair of a probe."""

from collections.abc import Iterable
from enum import StrEnum

from core.units.rights import Right
from core.units.unit_levels import Level
from core.workflow import cells
from core.workflow.device_forms import device_cells
from core.workflow.device_forms.device_effects import BeginBinding, EndBinding, OpenProbeWindow
from core.workflow.device_forms.device_rules import (
    by_warranty,
    measures,
    once,
    suffix_fits,
    unbound_or_freed_here,
)
from core.workflow.device_forms.header_and_footer import FILLED_BY, UNIT_HEADER
from core.workflow.effects import Effect
from core.workflow.form import FORM_FIELDS, CellFault, Form, FormRow
from core.workflow.form_check import each_row
from core.workflow.kinds import ApplicationKind, FormContext
from core.workflow.messages import message
from core.workflow.route import up_to


class ChangeOperation(StrEnum):
    """Operation of form 1 (HW-36)."""

    REPLACE = "replace"
    REPAIR = "repair"


def changes_what_it_says(_context: FormContext, form: Form) -> Iterable[CellFault]:
    """Check that a replacement changes something in each row, and that a repair says until when and changes nothing."""
    is_repair = form["operation"] == ChangeOperation.REPAIR
    if is_repair and form["due"] is None:
        yield CellFault(FORM_FIELDS, "due", message("repair_needs_day"))
    for row in each_row(form, "probe_before", "fridge_before", "probe_now", "fridge_now"):
        stays = row["probe_before"] == row["probe_now"] and row["fridge_before"] == row["fridge_now"]
        if stays != is_repair:
            yield CellFault(row.number, "probe_now", message("repair_keeps" if is_repair else "changes_nothing"))


def parameter_change_effects(form: Form, row: FormRow) -> Iterable[Effect]:
    """Move the probe to the fridge in use now; a repair silences this probe alone until it is back (HW-36)."""
    if form["operation"] == ChangeOperation.REPAIR:
        yield OpenProbeWindow(row.probe("probe_before"), str(form["due"]))
        return
    yield EndBinding(row.probe("probe_before"), row.zone("fridge_before"))
    yield BeginBinding(row.probe("probe_now"), row.zone("fridge_now"))


PARAMETER_CHANGE = ApplicationKind(
    code="form1",
    version=1,
    title="冷链设备参数变更申请单",
    header=UNIT_HEADER,
    fields=(
        cells.choice("operation", "类型", {ChangeOperation.REPLACE: "更换", ChangeOperation.REPAIR: "维修"}),
        device_cells.day("due", "预计修复日期", required=False),
    ),
    footer=FILLED_BY,
    columns=(
        device_cells.zone("fridge_before", "变更前的冰箱名称"),
        device_cells.zone("fridge_now", "现使用的冰箱名称"),
        device_cells.probe("probe_before", "更改前使用探头编码"),
        device_cells.probe("probe_now", "现使用的探头编码"),
        cells.note("备注"),
    ),
    rules=(
        changes_what_it_says,
        measures("probe_before", "fridge_before"),
        suffix_fits("probe_before", "fridge_before"),
        suffix_fits("probe_now", "fridge_now"),
        unbound_or_freed_here("probe_now"),
        once("probe_before"),
        once("probe_now"),
    ),
    route=up_to(Level.PROVINCE),
    payer=by_warranty("probe_before"),
    effects=parameter_change_effects,
    filed_with=Right.FILE,
    executed_with=Right.EXECUTE,
    on_site_with=Right.BIND,
)
