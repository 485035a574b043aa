"""Form 2 (附表2): how many fridges, gateways and probes a unit needs. Filing is all; form 3 refers to it."""

from core.units.unit_levels import Level
from core.workflow import cells
from core.workflow.device_forms.device_rules import requesting_unit_pays
from core.workflow.device_forms.header_and_footer import FILLED_BY, UNIT_HEADER
from core.workflow.kinds import ApplicationKind
from core.workflow.route import up_to

HARDWARE_INSTALLATION = ApplicationKind(
    code="form2",
    version=1,
    title="冷链监测设备安装申请单（硬件）",
    header=UNIT_HEADER,
    footer=FILLED_BY,
    columns=(
        cells.whole_number("fridges", "冰箱个数"),
        cells.whole_number("gateways", "网关个数"),
        cells.whole_number("probes", "探头个数"),
        cells.note("备注"),
    ),
    route=up_to(Level.PROVINCE),
    payer=requesting_unit_pays,
    most_rows=1,
)
