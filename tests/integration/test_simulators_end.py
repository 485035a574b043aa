"""End of simulated devices: what they leave behind, and the ports that are chosen for them."""

import gc
import socket
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from coldchain.demo.environment import HOST, free_port
from coldchain.simulate.modbus import ModbusDevices

CLIENTS = 3
ENDS = 5
RESET = struct.pack("ii", 1, 0)
"""Closed so, a connection leaves nothing of itself to the system."""


@contextmanager
def besieged(port: int) -> Iterator[None]:
    """Let clients connect all the time."""
    over, connected = threading.Event(), threading.Event()

    def connect() -> None:
        while not over.is_set():
            with socket.socket() as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                if client.connect_ex((HOST, port)) == 0:
                    connected.set()

    clients = [threading.Thread(target=connect) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    assert connected.wait(10)
    yield
    over.set()
    for client in clients:
        client.join()


@pytest.mark.long
def test_devices_that_end_leave_no_connection_open_though_clients_are_just_coming() -> None:
    with warnings.catch_warnings(record=True) as left:
        warnings.simplefilter("always", ResourceWarning)
        for _ in range(ENDS):
            devices = ModbusDevices()
            devices.add(1, "r4dcb08", lambda _channel: 5.0)
            devices.start()
            with besieged(devices.port):
                devices.stop()
            del devices
            gc.collect()
    assert [str(warning.message) for warning in left] == []


def test_a_port_is_given_once_and_is_none_of_those_of_connections() -> None:
    first_of_connections = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text("ascii").split()[0])
    given = [free_port() for _ in range(500)]
    assert len(set(given)) == len(given)
    assert max(given) < first_of_connections


def test_a_wanted_port_is_given_unless_somebody_listens_there() -> None:
    wanted = free_port()
    assert free_port(wanted) == wanted
    with socket.create_server((HOST, wanted)):
        assert free_port(wanted) != wanted
