"""The command `coldchain`: reads the settings, sets up logs and signals, and starts what was asked for.

Heavy packages are imported by the sub-command that needs them: an edge box runs `coldchain gateway` without them.
"""

import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from threading import Event
from typing import Annotated

import typer

from coldchain import __version__
from config.load import WrongSetting, load
from config.secrets import NoSecrets
from config.settings import Settings
from core.runtime import logs
from core.runtime.lifecycle import end_within, stop_on_signals
from core.runtime.single import only_one

app = typer.Typer(
    name="coldchain",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Keeps every vaccine cold, proves it, and wakes the right person when it isn't.\n\n"
        "**coldchain demo** shows everything at once, without any device.\n\n"
        "To run it for real: **coldchain init** writes coldchain.toml and the secrets, "
        "**coldchain import** reads units, people and devices, **coldchain check** tests it, "
        "**coldchain up** runs it."
    ),
)
user = typer.Typer(no_args_is_help=True, help="People who sign in on the web.")
app.add_typer(user, name="user", rich_help_panel="Setting up")
telemetry = typer.Typer(no_args_is_help=True, help="The store of the readings.")
app.add_typer(telemetry, name="telemetry", rich_help_panel="Setting up")

CONFIG = "COLDCHAIN_CONFIG"
"""Environment variable that names the settings; `up` hands them to its children so."""

Changed = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="This in place of the file's setting, such as collector.shards=00-7f; may be given again.",
    ),
]

COLLECTOR_ENDS_S = 3.0
"""Real seconds from a signal to its end, whatever store or broker hangs."""
ONE_MACHINE = "One machine"
SERVICES = "One service"
SETTING_UP = "Setting up"
TRYING = "Trying it"

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        envvar=CONFIG,
        show_envvar=True,
        help="The settings; coldchain.toml of this folder unless given.",
    ),
]
PasswordFromStdin = Annotated[bool, typer.Option(help="Read the password from standard input.")]


def main() -> None:
    """Run the command; a wrong setting or missing secret is one clear line and exit code 2."""
    try:
        app()
    except (WrongSetting, NoSecrets) as error:
        sys.stderr.write(f"coldchain: {error}\n")
        sys.exit(2)


@app.callback(invoke_without_command=True)
def _version(*, version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command(rich_help_panel=TRYING)
def demo(
    *,
    speed: Annotated[float, typer.Option(min=0.1, max=600, help="Seconds that pass in a real second.")] = 60.0,
    stop_after: Annotated[
        str, typer.Option(metavar="TIME", help="End after this long on the demo's own clock, such as 90m or 2h.")
    ] = "",
    replay: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Feed a logger's file through a simulated device: CSV time,temperature, or a Fridge-tag text export.",
        ),
    ] = None,
    folder: Annotated[Path, typer.Option(help="What the demo keeps; a second run goes on from it.")] = Path(
        "coldchain-demo"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the web pages; 0 takes a free one.")] = 8080,
) -> None:
    """Run a small county: simulated fridges, the whole line behind them, and phones to read the alarms on."""
    from coldchain.demo.show import DemoWish, show  # noqa: PLC0415

    wish = DemoWish(folder=folder, speed=speed, stop_after=stop_after, replay=replay, port=port)
    raise typer.Exit(show(wish, stop_on_signals()))


@app.command(rich_help_panel=ONE_MACHINE)
def up(config: Config = None) -> None:
    """Run all services of one machine, and start again whatever ends."""
    _serve("up", config, "coldchain.machine")


@app.command(rich_help_panel=ONE_MACHINE)
def status(
    *,
    json: Annotated[bool, typer.Option("--json", help="Everything that was found, for a program.")] = False,
    config: Config = None,
) -> None:
    """Show how the line is, what is wrong, and what to do about it; ends with 1 when something is wrong."""
    from coldchain import status_command  # noqa: PLC0415

    raise typer.Exit(status_command.status(load(config), as_json=json))


@app.command(rich_help_panel=SERVICES)
def gateway(config: Config = None, changed: Changed = None) -> None:
    """Read the probes over Modbus, keep the readings on disk, and send them until they are acknowledged."""
    _serve("gateway", config, "gateway_agent.service", changed)


@app.command(rich_help_panel=SERVICES)
def collector(config: Config = None, changed: Changed = None) -> None:
    """Take in what gateways send: de-duplicate, append to the intake log, acknowledge, store."""
    _serve("collector", config, "collector.service", changed)


@app.command(rich_help_panel=SERVICES)
def alerting(config: Config = None, changed: Changed = None) -> None:
    """Follow the readings, open alarms, escalate them, and send the messages."""
    _serve("alerting", config, "alerting.service", changed)


@app.command(rich_help_panel=SERVICES)
def api(config: Config = None, changed: Changed = None) -> None:
    """Serve the HTTP API and the web pages."""
    _serve("api", config, "api.service", changed)


@app.command(rich_help_panel=SERVICES)
def broker(config: Config = None, changed: Changed = None) -> None:
    """Run the embedded MQTT broker (a county's worth of traffic; a province uses Mosquitto or EMQX)."""
    _serve("broker", config, "coldchain.broker.service", changed)


@app.command(rich_help_panel=SETTING_UP)
def init(
    folder: Annotated[Path, typer.Argument(help="Where coldchain.toml and the data folder are to be.")] = Path(),
) -> None:
    """Make the secrets and a coldchain.toml to start from. Overwrites nothing."""
    from coldchain import setting_up  # noqa: PLC0415

    for line in setting_up.init(folder):
        typer.echo(line)


@app.command("import", rich_help_panel=SETTING_UP)
def import_(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="CSV or TOML; see docs/import.md.")],
    config: Config = None,
) -> None:
    """Read units, people, equipment, gateways, probes and bindings from a file: all of it, or nothing."""
    from coldchain import setting_up  # noqa: PLC0415

    _told(*setting_up.import_into(load(config), file))


@app.command(rich_help_panel=SETTING_UP)
def check(config: Config = None) -> None:
    """Test the settings and every connection, and say what to mend."""
    from coldchain.checking import check as run_checks  # noqa: PLC0415

    failed = 0
    for finding in run_checks(load(config)):
        typer.echo(str(finding))
        failed += not finding.good
    raise typer.Exit(1 if failed else 0)


@app.command("broker-passwords", rich_help_panel=SETTING_UP)
def broker_passwords(config: Config = None) -> None:
    """Print the password file of a Mosquitto: the services and every gateway. See deploy/mosquitto."""
    from coldchain.broker.passwords import password_lines  # noqa: PLC0415
    from config.secrets import read  # noqa: PLC0415

    for line in password_lines(read(load(config).data_dir).broker):
        typer.echo(line)


@app.command("edge-secrets", rich_help_panel=SETTING_UP)
def edge_secrets(
    gateways: Annotated[list[str], typer.Argument(help="Numbers of the gateways that the box is.")],
    config: Config = None,
) -> None:
    """Print the secrets.json of an edge box: the broker passwords of its gateways, and nothing else."""
    from config.secrets import encoded, of_edge_box, read  # noqa: PLC0415

    data_dir = load(config).data_dir
    typer.echo(encoded(of_edge_box(read(data_dir), gateways, data_dir)).decode())


@user.command("add")
def user_add(
    username: Annotated[str, typer.Argument(help="What they sign in with.")],
    unit: Annotated[str, typer.Option(help="Code of the unit; the grant covers all below it.")],
    role: Annotated[str, typer.Option(help="system_admin, business_admin, user or technician.")] = "user",
    *,
    password_stdin: PasswordFromStdin = False,
    config: Config = None,
) -> None:
    """Create an account and grant it a role on a unit and all below."""
    from coldchain import setting_up  # noqa: PLC0415

    password = _password(from_stdin=password_stdin)
    _told(*setting_up.add_user(load(config), username, password, unit_code=unit, role=role))


@user.command("list")
def user_list(config: Config = None) -> None:
    """Say who may sign in, as what and where."""
    from coldchain import setting_up  # noqa: PLC0415

    _told(*setting_up.list_users(load(config)))


@user.command("password")
def user_password(
    username: Annotated[str, typer.Argument(help="Whose password.")],
    *,
    password_stdin: PasswordFromStdin = False,
    config: Config = None,
) -> None:
    """Give an account another password. It unlocks the account, and ends its sessions everywhere."""
    from coldchain import setting_up  # noqa: PLC0415

    _told(*setting_up.set_password(load(config), username, _password(from_stdin=password_stdin)))


@telemetry.command("init")
def telemetry_init(config: Config = None) -> None:
    """Make organisation, bucket and two scoped tokens in InfluxDB, where they are missing; run it again at any time.

    On a server that somebody else set up, the environment variable INFLUX_TOKEN gives a token of theirs, this once.
    """
    from coldchain import telemetry_commands  # noqa: PLC0415

    _told(*telemetry_commands.init(load(config), os.environ.get("INFLUX_TOKEN", "")))


@telemetry.command("verify")
def telemetry_verify(config: Config = None) -> None:
    """Read every reading of the embedded store, and every daily figure, against its checksum; services may go on."""
    from coldchain import telemetry_commands  # noqa: PLC0415

    _told(*telemetry_commands.verify(load(config)))


@app.command("wechat-sim", rich_help_panel=TRYING)
def wechat_sim(
    folder: Annotated[Path, typer.Option(help="Where its log is kept.")] = Path("wechat-sim"),
    host: str = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8090,
    clock: Annotated[str, typer.Option(help="Clock file of a demo; the machine's clock unless given.")] = "",
) -> None:
    """Run a WeChat for tests and demos: tokens, templates, sign-in, faults, and a log of what each person got."""
    from coldchain.simulate.wechat.service import run  # noqa: PLC0415

    logs.set_up("wechat-sim", plain=sys.stderr.isatty())
    run(folder, host=host, port=port, virtual_clock=clock, stop=_stop())


def _serve(name: str, config: Path | None, module: str, changed: Sequence[str] | None = None) -> None:
    """Set up logs and signals of a service and run it, one process at a time, until it is asked to stop.

    The settings are looked at first, so that a wrong one is said at once; then the module with its `run` is imported.
    """
    settings = load(config, changed or ())
    if config:
        os.environ[CONFIG] = str(config.resolve())
    run: Callable[[Settings, Event], None] = import_module(module).run
    logs.set_up(name, level=settings.log_level, plain=sys.stderr.isatty())
    stop = _stop()
    if name == "collector":
        end_within(COLLECTOR_ENDS_S)
    named = {
        "collector": settings.collector.process,
        "alerting": settings.alerting.process,
        "api": settings.api.process,
    }
    with only_one(settings.data_dir, named.get(name, name), stop) as ours:
        if ours:
            try:
                run(settings, stop)
            except WrongSetting as error:
                # What only the service itself can see: a profile that doesn't exist, a channel that is unknown.
                msg = f"{config or 'coldchain.toml'}: {error}"
                raise WrongSetting(msg) from error


def _password(*, from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\n")
    asked: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    return asked


def _told(code: int, lines: list[str]) -> None:
    for line in lines:
        typer.echo(line, err=code != 0)
    raise typer.Exit(code)


def _stop() -> Event:
    from coldchain.supervisor import end_with_parent  # noqa: PLC0415

    stop = stop_on_signals()
    end_with_parent(stop)
    return stop
