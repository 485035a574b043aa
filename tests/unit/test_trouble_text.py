"""Whatever goes wrong is known by its kind, and has a sentence in both languages."""

import errno
import socket
import sqlite3
import ssl
from pathlib import Path

import psycopg
import pytest

from config.catalogue import LANGUAGES, Language
from core.health.trouble_text import advice, public, say, wrong
from core.runtime.instant import Instant
from core.runtime.trouble import Trouble, TroubleKind, Troubles, kind_of

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES: dict[Language, str] = {"en": "trouble.md", "zh-CN": "trouble.zh-CN.md"}


@pytest.mark.parametrize("kind", TroubleKind)
def test_every_kind_has_its_sentence_and_what_to_do(kind: TroubleKind) -> None:
    for language in LANGUAGES:
        trouble = Trouble("intake log", kind, Instant(0), "/secret/place", "driver's words")
        assert wrong(trouble, language)
        assert advice(trouble, language)
    assert "secret" not in public(trouble)
    assert "driver" not in public(trouble)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_sentence_stands_in_the_page_on_trouble(language: Language) -> None:
    page = (DOCS / PAGES[language]).read_text("utf-8")
    told = {line.split("|")[1].strip() for line in page.splitlines() if line.startswith("| ")}
    parts = ["…", "……", *say.section("part", language).values()]
    for kind in TroubleKind:
        sentences = {say(f"wrong.{kind}", language, part=part) for part in parts}
        assert sentences & told, say(f"wrong.{kind}", language, part="…")


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("database or disk is full", TroubleKind.DISK_FULL),
        ("InfluxDB answered 500: engine: write error: no space left on device", TroubleKind.DISK_FULL),
        ("InfluxDB answered 500: opening shard previously failed with: no space left on device", TroubleKind.STUCK),
        (
            "InfluxDB answered 500: opening shard previously failed with: [shard 1] cannot read corrupt file /d/1.tsm",
            TroubleKind.DAMAGED,
        ),
        ('InfluxDB answered 404: bucket "readings" not found', TroubleKind.NOT_READY),
        ("attempt to write a readonly database", TroubleKind.READ_ONLY),
        ("[Errno 30] Read-only file system: '/x'", TroubleKind.READ_ONLY),
        ("InfluxDB gave no answer: HTTPConnectionPool(host='h', port=1): Read timed out.", TroubleKind.NO_ANSWER),
        ("PostgreSQL gave no answer for 8 s; the connection was closed", TroubleKind.NO_ANSWER),
        ("connection timeout expired", TroubleKind.NO_ANSWER),
        ("Keep alive timeout", TroubleKind.NO_ANSWER),
        ("InfluxDB answered 500: internal error", TroubleKind.FAILS),
        ("InfluxDB answered 401: unauthorized access", TroubleKind.REFUSED),
        ("no broker at 127.0.0.1:1883", TroubleKind.UNREACHABLE),
        ("server closed the connection unexpectedly", TroubleKind.UNREACHABLE),
        ("the database system is starting up", TroubleKind.UNREACHABLE),
        ("[SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca (_ssl.c:2580)", TroubleKind.CERTIFICATE),
        ("no such table: alarm", TroubleKind.NOT_READY),
        ("something else", TroubleKind.OTHER),
    ],
)
def test_the_words_of_programs_underneath_are_known(said: str, kind: TroubleKind) -> None:
    assert kind_of(said) is kind


def test_codes_count_more_than_words_and_the_innermost_most(tmp_path: Path) -> None:
    outside = OSError("outside: timed out")
    outside.__cause__ = OSError(errno.ENOSPC, "inside")
    assert kind_of(outside) is TroubleKind.DISK_FULL
    (tmp_path / "no.db").write_bytes(b"certainly not a database" * 100)
    db = sqlite3.connect(tmp_path / "no.db")
    with pytest.raises(sqlite3.DatabaseError) as damaged:
        db.execute("SELECT * FROM x")
    db.close()
    assert kind_of(damaged.value) is TroubleKind.DAMAGED


def test_the_numbers_of_tls_and_of_names_are_no_error_numbers() -> None:
    """1 would be a file that may not be written, and send somebody to look at a disk."""
    untrusted = RuntimeError("InfluxDB gave no answer: Max retries exceeded")
    untrusted.__cause__ = ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate")
    assert kind_of(untrusted) is TroubleKind.CERTIFICATE
    assert kind_of(ssl.SSLEOFError(8, "EOF occurred in violation of protocol")) is TroubleKind.UNREACHABLE
    assert kind_of(socket.gaierror(-3, "Temporary failure in name resolution")) is TroubleKind.UNREACHABLE
    assert kind_of(psycopg.errors.AdminShutdown("terminating connection")) is TroubleKind.UNREACHABLE
    assert (
        kind_of(psycopg.errors.DataCorrupted("invalid page in block 0 of relation base/5/1249")) is TroubleKind.DAMAGED
    )


def test_trouble_is_news_when_it_begins_changes_or_ends_and_keeps_its_beginning() -> None:
    troubles = Troubles()
    assert troubles.note("telemetry", "Connection refused by <object at 0x1>")
    (first,) = troubles.now()
    assert not troubles.note("telemetry", "Connection refused by <object at 0x2>")
    (again,) = troubles.now()
    assert (again.since, again.detail) == (first.since, "Connection refused by <object at 0x2>")
    assert troubles.note("telemetry", "timed out")
    assert troubles.note("telemetry", None)
    assert not troubles.note("telemetry", "")
    assert troubles.now() == []
