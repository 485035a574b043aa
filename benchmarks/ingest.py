"""How many readings a second go from bytes into the intake log: `python benchmarks/ingest.py`.

Without a broker, so that it shows what decoding, stamping, de-duplicating and the durable append cost together.
"""

import tempfile
import threading
import time
from pathlib import Path

import msgspec

from collector.counts import Counts
from collector.ingest import Ingest
from core.bus.client import BrokerAddress, Bus, Message
from core.intake.sqlite import SqliteIntakeLog
from core.runtime.clock import SystemClock
from core.wire.messages import Batch, ClockReport, Reading
from core.wire.topics import GatewayNumber, Kind, Topic

GATEWAYS, BATCHES, READINGS = 40, 250, 8


def messages(now: int) -> list[Message]:
    made = []
    for seq in range(1, BATCHES + 1):
        for number in range(GATEWAYS):
            gw = GatewayNumber(f"g{number}")
            readings = [Reading(f"20860{probe}", now - probe, 4.21) for probe in range(READINGS)]
            batch = Batch(1, gw, "9f3c02d1a47be865", "7f3a9c21", seq, now, ClockReport("ntp", 0, 1), readings)
            made.append(Message(str(Topic(gw, Kind.DATA)), msgspec.json.encode(batch), False, 0, 0))
    return made


def main() -> None:
    clock, counts, stop = SystemClock(), Counts(), threading.Event()
    nowhere = Bus(
        BrokerAddress("127.0.0.1", 1), client_id="b", username="", password="", clean=True, on_message=lambda _: None
    )
    with tempfile.TemporaryDirectory() as folder:
        log = SqliteIntakeLog(Path(folder) / "intake.db")
        ingest = Ingest(log, clock, counts, group=500, linger=0.0, grown=lambda: None)
        sent = messages(clock.now())
        for message in sent:
            ingest.take(message)
        began = time.perf_counter()
        thread = threading.Thread(target=ingest.run, args=(nowhere, stop))
        thread.start()
        while not ingest.is_idle:
            time.sleep(0.005)
        took = time.perf_counter() - began
        stop.set()
        thread.join()
        assert counts.facts()["appended"] == len(sent)
        size = (Path(folder) / "intake.db").stat().st_size
        print(f"{len(sent) / took:,.0f} messages/s, {len(sent) * READINGS / took:,.0f} readings/s")
        print(f"{size / len(sent) / READINGS:.0f} bytes a reading in the log")
        log.close()


if __name__ == "__main__":
    main()
