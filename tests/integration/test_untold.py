"""Values of a statement stand in no error and no log: messages with their links, names, hashes."""

import threading

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from alerting.delivering.channels.port import Address, OutgoingMessage, Receipt, Recipient
from alerting.delivering.delivery import Delivery
from core.db.engine import Records
from core.runtime.clock import SystemClock
from tests.fixtures.waiting import until


class Pigeon:
    """A channel that nothing is given to."""

    longest_send_s = 1.0

    def send(self, message: OutgoingMessage, to: Address) -> Receipt:
        raise AssertionError(message, to)

    def take_over(self, message: OutgoingMessage, to: Recipient) -> tuple[Address, bytes] | None:
        raise AssertionError(message, to)


def test_an_error_of_the_records_says_the_statement_and_not_what_it_was_given(records: Records) -> None:
    with pytest.raises(DBAPIError) as failed, records.read() as tx:
        tx.execute(text("INSERT INTO nowhere VALUES (:link)"), {"link": "https://cold.example.org/a/very-secret"})
    assert "nowhere" in str(failed.value)
    assert "very-secret" not in str(failed.value)


def test_an_outbox_that_is_away_is_one_line_of_the_log_without_statement(
    records: Records, capsys: pytest.CaptureFixture[str]
) -> None:
    with records.write() as tx:
        tx.execute(text("ALTER TABLE outbox RENAME TO away"))
    delivery = Delivery(records, {"pigeon": Pigeon()}, SystemClock(), worker="w1", lease_s=30)
    stop = threading.Event()
    thread = threading.Thread(target=delivery.run, args=(stop,))
    thread.start()
    until(delivery.troubles.now, "the trouble")
    stop.set()
    thread.join()
    said = capsys.readouterr().out
    assert said.count("outbox not reached") == 1
    assert "SELECT" not in said
