"""What tests share: a county under watch, a WeChat with people to be told, an embedded store in small measures."""

from tests.fixtures.alerting import watch
from tests.fixtures.delivering import people, running, sim
from tests.fixtures.embedded import small_measures

__all__ = ["people", "running", "sim", "small_measures", "watch"]
