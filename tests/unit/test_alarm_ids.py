"""Alarm ids: no two alike, whoever asks, and another block in each process."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from core.ids import new_alarm_id


def test_threads_never_get_the_same() -> None:
    with ThreadPoolExecutor(4) as threads:
        ids = list(threads.map(lambda _: new_alarm_id(), range(10_000)))
    assert len(set(ids)) == 10_000
    assert all(10**14 <= each < 10**15 for each in ids)


def test_a_process_that_starts_again_begins_elsewhere() -> None:
    first = "from core.ids import new_alarm_id; print(new_alarm_id())"
    begins = {subprocess.run([sys.executable, "-c", first], capture_output=True, check=True).stdout for _ in range(3)}
    assert len(begins) == 3
