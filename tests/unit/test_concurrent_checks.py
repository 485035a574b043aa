"""Parts that may hang are asked once while they do."""

import threading

from core.health.concurrent_checks import CheckResult, ConcurrentChecks


def test_what_hangs_is_asked_once_however_often_somebody_looks() -> None:
    asked, answer = [], threading.Event()

    def hang() -> str:
        asked.append(1)
        answer.wait(30)
        return "at last"

    checks = ConcurrentChecks({"hangs": hang, "well": lambda: "well"})
    for _ in range(3):
        found = checks.run(0.05)
        assert found == {
            "hangs": CheckResult(None, None, answered=False),
            "well": CheckResult("well", None, answered=True),
        }
    answer.set()
    assert checks.run(30)["hangs"].value == "at last"
    assert len(asked) == 1
    assert checks.run(30, ["well"]).keys() == {"well"}
    assert len(asked) == 1
