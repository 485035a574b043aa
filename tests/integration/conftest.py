"""What the tests of alerting have: a county under watch."""

from tests.fixtures.alerting import watch

__all__ = ["watch"]
