"""A real Mosquitto with the files of deploy/mosquitto: who may say and hear what, what it keeps, and its death."""

import datetime as dt
import ipaddress
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import collector.service
import gateway_agent.service
from config import secrets
from config.settings import BrokerSettings, DeviceOnBus, RecordsSettings, Settings
from core.db.engine import Records, connect
from core.intake.factory import open_log
from core.intake.port import LogEntry
from core.mqtt.client import BrokerAddress, MqttClient, MqttMessage
from core.runtime.instant import DAY
from core.units import device_revision
from core.wire.shards import GatewayNumber, shard_of
from core.wire.topics import MessageKind, Topic
from gateway_agent.spool import Spool
from tests.fixtures.broker import Client, Mosquitto, running, settings_in
from tests.fixtures.county import add_fridge, add_gateway, add_probe, add_unit
from tests.fixtures.databases import fresh_url
from tests.fixtures.modbus import bus_to, line
from tests.fixtures.publisher import Gateway
from tests.fixtures.uplinks import GW, agent_in
from tests.fixtures.waiting import until

ONE, TWO = GatewayNumber("10001"), GatewayNumber("10002")
DATA, ACK, BIRTH = (str(Topic(ONE, kind)) for kind in (MessageKind.DATA, MessageKind.ACK, MessageKind.BIRTH))
OTHER_DATA, OTHER_ACK, OTHER_STATE = (
    str(Topic(TWO, kind)) for kind in (MessageKind.DATA, MessageKind.ACK, MessageKind.STATE)
)
UP = "cc/v1/+/+/up/#"


@pytest.fixture(params=["3.1.1", "5"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    made = settings_in(tmp_path, ONE, TWO, broker="mosquitto")
    return msgspec.structs.replace(made, broker=msgspec.structs.replace(made.broker, protocol=request.param))


@pytest.fixture
def mosquitto(settings: Settings) -> Iterator[Mosquitto]:
    with Mosquitto(settings) as running_one:
        yield running_one


@pytest.mark.usefixtures("mosquitto")
def test_a_gateway_says_and_hears_only_what_is_its_own(settings: Settings) -> None:
    everything = ("#", UP, "$SYS/#", OTHER_ACK, "cc/v1/+/+/down/#", "cc/v1/wake/#", ACK)
    with Client(settings, None, UP, "cc/v1/wake/#") as services, Client(settings, ONE, *everything) as curious:
        services.connected()
        curious.connected()
        for topic in (OTHER_DATA, OTHER_STATE, ACK, OTHER_ACK, "cc/v1/wake/00", f"cc/v1/00/{ONE}/x/up/data", "t"):
            _forge(settings, topic)
        until(lambda: curious.bus.publish(DATA, b"own") and services.payloads(DATA), "what is its own")
        services.bus.publish(OTHER_ACK, b"of another")
        services.bus.publish("cc/v1/wake/00", b"")
        services.bus.publish(ACK, b"own")
        until(lambda: set(curious.payloads(ACK)) == {b"own"}, "its own acknowledgement")  # once a filter
        assert {message.topic for message in services.heard} - {"cc/v1/wake/00"} == {DATA}
        assert b"forged" not in services.payloads()
        assert {message.topic for message in curious.heard} == {ACK}


def _forge(settings: Settings, topic: str) -> None:
    """Say something that isn't allowed, and wait for the answer: this Mosquitto ends the connection, too."""
    told = threading.Event()
    with Client(settings, ONE, client_id="rogue") as rogue:
        rogue.connected().bus.publish(topic, b"forged", retain=True, on_done=told.set)
        until(lambda: told.is_set() or rogue.connections > 1, "an answer")


@pytest.mark.usefixtures("mosquitto")
@pytest.mark.parametrize(("user", "password"), [("", ""), (ONE, "wrong"), ("nobody", ""), ("coldchain", "wrong")])
def test_nobody_signs_in_without_the_right_name_and_password(settings: Settings, user: str, password: str) -> None:
    with Client(settings, user, password=password) as stranger:
        until(lambda: stranger.bus.problem == "Not authorized", "refusal")


def test_a_gateway_issued_meanwhile_signs_in_after_a_reload_that_ends_no_connection(
    settings: Settings, mosquitto: Mosquitto
) -> None:
    with Client(settings, ONE) as known:
        known.connected()
        password = secrets.gateway_password(settings.data_dir, "10003")
        mosquitto.write_passwords()
        mosquitto.reload()
        with Client(settings, "10003", password=password) as new:
            new.connected()
        assert known.connections == 1


def test_a_collector_that_was_away_gets_all_that_came_meanwhile_in_order(
    settings: Settings, mosquitto: Mosquitto
) -> None:
    """More than the defaults would keep, and over a restart of the broker."""
    with Client(settings, None, UP, client_id="collector-1", clean=False) as before:
        before.connected()
        with Client(settings, ONE) as gateway:
            gateway.connected().bus.publish(DATA, b"first")
            until(lambda: before.payloads() == [b"first"], "message")
    taken = threading.Semaphore(0)
    with Client(settings, ONE) as gateway:
        gateway.connected()
        for number in range(2_500):
            assert gateway.bus.publish(DATA, b"%05d" % number + b"." * 500, on_done=taken.release)
        for _ in range(2_500):
            assert taken.acquire(timeout=10)
    mosquitto.stop()
    mosquitto.start()
    with Client(settings, None, UP, client_id="collector-1", clean=False) as after:
        until(lambda: len(after.heard) == 2_500, "all of it")
        assert [payload[:5] for payload in after.payloads()] == [b"%05d" % number for number in range(2_500)]


def test_a_birth_that_was_kept_greets_a_collector_that_comes_later(settings: Settings, mosquitto: Mosquitto) -> None:
    with Client(settings, ONE) as gateway:
        done = threading.Event()
        gateway.connected().bus.publish(BIRTH, b"{}", retain=True, on_done=done.set)
        assert done.wait(5)
    mosquitto.stop()
    mosquitto.start()
    with Client(settings, None, UP) as late:
        until(lambda: [(m.topic, m.payload, m.retain) for m in late.heard] == [(BIRTH, b"{}", True)], "birth")


def test_a_stopped_collector_takes_in_what_came_meanwhile(tmp_path: Path) -> None:
    """Nobody sends again here: the broker alone has it."""
    settings = _installation(settings_in(tmp_path, ONE, TWO, broker="mosquitto"))
    with Mosquitto(settings), Gateway(settings) as gateway:
        with running(collector.service.run, settings):
            gateway.send_until_covered(range(1, 2))
        for seq in range(2, 40):
            gateway.say(gateway.batch(seq))
        with running(collector.service.run, settings):
            gateway.acknowledged(39)
    assert [entry.batch.seq for entry in _entries(settings)] == list(range(1, 40))


def test_agent_and_collector_survive_kill_9_of_the_broker(tmp_path: Path) -> None:
    with line("tcp") as devices:
        devices.add(1, "r4dcb08", lambda _channel: 4.2)
        bus = bus_to(devices, "tcp", DeviceOnBus(address=1, profile="r4dcb08", probes={"t3": "208601"}), interval=0.1)
        agent = agent_in(tmp_path, bus)
        mosquitto_settings = settings_in(tmp_path, ONE, broker="mosquitto").broker
        settings = _installation(msgspec.structs.replace(agent, broker=mosquitto_settings))
        mosquitto = Mosquitto(settings)
        with running(collector.service.run, settings), running(gateway_agent.service.run, settings):
            for _ in range(3):
                mosquitto.start()
                known = len(_entries(settings))
                until(lambda: len(_entries(settings)) >= known + 5, "batches in the log", within_s=20)  # noqa: B023
                mosquitto.kill()
            with mosquitto:
                last = _spooled(settings)
                until(lambda: last in _seqs(settings), "all that was read meanwhile", within_s=20)
                until(lambda: _seqs(settings) >= set(range(1, last + 1)), "what was in flight as it died", within_s=20)
    entries = _entries(settings)
    assert len(entries) == len({entry.batch.seq for entry in entries}), "each once"
    stamps = [reading.ts for entry in entries for reading in entry.batch.readings]
    assert len(stamps) == len(set(stamps))


def test_with_certificates_the_common_name_is_the_user(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, ONE, TWO, broker="mosquitto")
    mosquitto = Mosquitto(settings, listener="tls.conf.sample")
    authority = _Authority(mosquitto.folder / "certs")
    stranger = _Authority(tmp_path / "stranger")
    authority.issue("broker")
    heard: list[MqttMessage] = []
    with mosquitto:
        services = _with_certificate(settings, authority, "coldchain", heard, UP)
        gateway = _with_certificate(settings, authority, ONE, [])
        imposter = _with_certificate(settings, authority, ONE, [], signed_by=stranger)
        until(lambda: services.connected and gateway.connected, "connections")
        gateway.publish(OTHER_DATA, b"forged")
        until(lambda: gateway.publish(DATA, b"own") and heard, "what is its own")
        assert {message.topic for message in heard} == {DATA}
        assert not imposter.connected
        until(lambda: "before it answers: does it take this certificate?" in imposter.problem, "the imposter's problem")
        for bus in (services, gateway, imposter):
            bus.stop()


class _Authority:
    """A CA in a folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Coldchain test CA")])
        self._write("ca", self._certificate(self._name, self._key, authority=True), self._key)

    def issue(self, name: str) -> tuple[str, str]:
        """Write a certificate and its key; return their files."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        return self._write(name, self._certificate(subject, key, authority=False), key)

    def _certificate(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, authority: bool) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(here, critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def _write(self, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> tuple[str, str]:
        files = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        files[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return str(files[0]), str(files[1])


def _with_certificate(
    settings: Settings,
    authority: _Authority,
    name: str,
    heard: list[MqttMessage],
    *subscriptions: str,
    signed_by: _Authority | None = None,
) -> MqttClient:
    certificate, key = (signed_by or authority).issue(name)
    where = BrokerSettings(
        port=settings.broker.port,
        tls_ca=str(authority.folder / "ca.crt"),
        tls_cert=certificate,
        tls_key=key,
        protocol="5",
    )
    bus = MqttClient(
        BrokerAddress.of(where),
        client_id=f"{name}-{'stranger' if signed_by else 'known'}",
        username="10002",  # what a client calls itself doesn't count
        password="",
        clean=True,
        on_message=heard.append,
        subscriptions=subscriptions,
    )
    bus.start()
    return bus


def _installation(settings: Settings) -> Settings:
    """Records with gateway 10001 and its probe 208601."""
    settings = msgspec.structs.replace(
        settings, records=RecordsSettings(url=fresh_url("sqlite", Path(settings.data_dir)))
    )
    records = Records(connect(settings.records.url))
    with records.write() as tx:
        device_revision.bump(tx)
        unit = add_unit(tx, "Longtan")
        _, (zone,) = add_fridge(tx, "F1", unit)
        add_probe(tx, "208601", add_gateway(tx, GW, unit), zone)
    records.close()
    return settings


def _spooled(settings: Settings) -> int:
    """Return the last number that the agent gave."""
    spool = Spool(Path(settings.data_dir) / "spool" / f"{GW}.db", limit_bytes=2**30, limit_age=DAY)
    last = spool.seq
    spool.close()
    return last


def _seqs(settings: Settings) -> set[int]:
    return {entry.batch.seq for entry in _entries(settings)}


def _entries(settings: Settings) -> list[LogEntry]:
    log = open_log("", settings.data_dir)
    entries = log.read(shard_of(ONE), 0, 10_000)
    log.close()
    return entries
