"""HTML pages of the simulator, for a phone: no scripts, nothing from another host."""

from datetime import datetime
from zoneinfo import ZoneInfo

import jinja2

from core.runtime.instant import Instant, at_zone

_ZONE = ZoneInfo("Asia/Shanghai")
_pages = jinja2.Environment(
    loader=jinja2.PackageLoader("coldchain.simulate.wechat", "pages"), autoescape=True, undefined=jinja2.StrictUndefined
)


def _local(when: Instant) -> datetime:
    return at_zone(when, _ZONE)


_pages.filters["local"] = _local


def page(name: str, **shown: object) -> str:
    return _pages.get_template(name).render(shown)
