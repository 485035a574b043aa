"""Check of a logger's file for a replay: the simulated device must be able to show every value of the file."""

from coldchain.simulate.modbus import registers
from config.localized_message import LocalizedMessage
from config.text_file import FileProblem
from core.ids import Centi
from core.logger_files.logger_file import LoggerFile
from gateway_agent.device_profile import ProfileChannel
from gateway_agent.register_decoder import measure


def unplayable_rows(file: LoggerFile, channel: ProfileChannel) -> list[FileProblem]:
    """Return the rows whose value the agent would read differently from the simulated device.

    A device has a resolution and a range, and values that mean a broken sensor, such as 85.0 of a DS18B20.
    """
    shown: dict[Centi | None, Centi | None] = {}
    problems = []
    for (_, value), line in zip(file.readings, file.lines, strict=True):
        if value not in shown:
            shown[value] = _shown(channel, value)
        if shown[value] != value:
            problems.append(FileProblem(_refusal(shown[value]), line, file.columns.temperature, _degrees(value)))
    return problems


def _shown(channel: ProfileChannel, value: Centi | None) -> Centi | None:
    words = registers(channel, None if value is None else value / 100)
    points = {(channel.function, channel.address + step): word for step, word in enumerate(words)}
    measured, _ = measure(channel, points)
    return None if measured is None else Centi(round(measured * 100))


def _refusal(shown: Centi | None) -> LocalizedMessage:
    if shown is None:
        return _message("broken_sensor")
    return _message("other_value", shown=_degrees(shown))


def _degrees(value: Centi | None) -> str:
    return "" if value is None else f"{value / 100:.2f}"


def _message(name: str, **values: object) -> LocalizedMessage:
    return LocalizedMessage("coldchain.demo", f"replay.{name}", values)
