"""Fixtures of scenarios."""

from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture
def quick_status(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let services write their status and compare cursors several times a second, and log plain text."""
    plain = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[structlog.stdlib.add_log_level, plain])
    monkeypatch.setattr("core.runtime.status.EVERY_S", 0.1)
    monkeypatch.setattr("collector.alignment_gate.EVERY_S", 0.3)
    yield
    structlog.reset_defaults()
