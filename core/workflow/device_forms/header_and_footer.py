"""Header and footer that forms 1 to 4 share: the unit, and who filled the form in."""

from core.workflow import cells

UNIT_HEADER = (cells.unit_name("unit_name", "单位名称"), cells.unit_code("unit_code", "单位编码"))
"""Name and ten-digit code must both be those of the filing unit (HW-19)."""
FILLED_BY = (cells.text("filled_by", "填报人"), cells.phone("phone", "填报人联系电话"))
