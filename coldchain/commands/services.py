"""Sub-commands that run until they are stopped: `up`, and one for each service."""

import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from threading import Event

from coldchain.commands.options import CONFIG, ConfigFile, SettingOverrides
from coldchain.commands.texts import command, group
from config import secrets
from config.settings import Settings
from config.settings_loader import InvalidSetting, load_settings
from core.runtime import logs
from core.runtime.file_permissions import close_to_others, private_places
from core.runtime.lifecycle import end_within, stop_on_signals
from core.runtime.process_lock import single_process

IN_GROUPS = ("collector", "writer")
"""Services whose threads work on whole groups of messages, and are safe to be killed."""
ENDS_WITHIN_S = 10.0
"""Longest time, in real seconds, from a signal to the end of these services, even if a store or the broker hangs."""
SWITCH_S = 0.02
"""Time that a busy thread of these services keeps Python's lock while others wait. With Python's 5 ms, an eighth of the
CPU time goes into switching between them (benchmarks/ingest.py)."""

app = group()


@command(app, "up", "machine")
def up(config: ConfigFile = None) -> None:
    serve("up", config, "coldchain.one_machine")


@command(app, "gateway", "services")
def gateway(config: ConfigFile = None, changed: SettingOverrides = None) -> None:
    serve("gateway", config, "gateway_agent.service", changed)


@command(app, "collector", "services")
def collector(config: ConfigFile = None, changed: SettingOverrides = None) -> None:
    serve("collector", config, "collector.service", changed)


@command(app, "writer", "services")
def writer(config: ConfigFile = None, changed: SettingOverrides = None) -> None:
    serve("writer", config, "collector.writer_service", changed)


@command(app, "alerting", "services")
def alerting(config: ConfigFile = None, changed: SettingOverrides = None) -> None:
    serve("alerting", config, "alerting.service", changed)


@command(app, "api", "services")
def api(config: ConfigFile = None, changed: SettingOverrides = None) -> None:
    serve("api", config, "api.service", changed)


@command(app, "broker", "services")
def broker(config: ConfigFile = None, changed: SettingOverrides = None) -> None:
    serve("broker", config, "coldchain.broker.service", changed)


def serve(name: str, config: Path | None, module: str, changed: Sequence[str] | None = None) -> None:
    """Set up logs and signals of a service and run it, one process at a time, until it is asked to stop.

    Settings and secrets are read first: a mistake is reported at once, and a failed start leaves nothing behind. Then
    the service's module is imported and its `run` is called.
    """
    settings = load_settings(config, changed or ())
    secrets.read(settings.data_dir, edge=name == "gateway")
    close_to_others(private_places(settings))
    if config:
        os.environ[CONFIG] = str(config.resolve())
    run: Callable[[Settings, Event], None] = import_module(module).run
    logs.set_up(name, level=settings.log_level, plain=sys.stderr.isatty())
    stop = stop_event()
    if name in IN_GROUPS:
        end_within(ENDS_WITHIN_S)
        sys.setswitchinterval(SWITCH_S)
    process_names = {
        "collector": settings.collector.process,
        "writer": settings.writer.process,
        "alerting": settings.alerting.process,
        "api": settings.api.process,
    }
    with single_process(settings.data_dir, process_names.get(name, name), stop, wait=name != "up") as is_the_only_one:
        if is_the_only_one:
            try:
                run(settings, stop)
            except InvalidSetting as error:
                # Only the service itself can find this one, such as an unknown profile or channel.
                source = config or "coldchain.toml"
                raise InvalidSetting("\n".join(f"{source}: {line}" for line in str(error).splitlines())) from error


def stop_event() -> Event:
    """Return an event that is set by a signal or by the end of the supervisor."""
    from coldchain.supervisor import end_with_parent  # noqa: PLC0415

    stop = stop_on_signals()
    end_with_parent(stop)
    return stop
