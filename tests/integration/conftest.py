"""Shared fixtures: a county with alerting, a WeChat simulator with people, a small embedded store."""

from tests.fixtures.alerting import watch
from tests.fixtures.delivering import people, running, sim
from tests.fixtures.embedded import small_measures

__all__ = ["people", "running", "sim", "small_measures", "watch"]
