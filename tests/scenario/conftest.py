"""Shows what kill scenarios counted, also when they pass."""

import pytest

REPORT = "report"
"""Name of the property that a test records with the lines of its report."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    found = [
        (report.nodeid, str(value))
        for reports in terminalreporter.stats.values()
        for report in reports
        if isinstance(report, pytest.TestReport) and report.when == "call"
        for name, value in report.user_properties
        if name == REPORT
    ]
    if found:
        terminalreporter.section("killed on purpose")
    for _test, text in sorted(found):
        terminalreporter.write_line(text)
