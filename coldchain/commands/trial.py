"""Sub-commands for trying the system without devices: `demo` and `wechat-sim`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from coldchain.commands.services import stop_event
from coldchain.commands.texts import command, group, say
from config.settings_loader import InvalidSetting
from core.runtime import logs
from core.runtime.lifecycle import stop_on_signals
from core.runtime.port_holder import foreign_holder

app = group()


@command(app, "demo", "trying")
def demo(
    *,
    speed: Annotated[float, typer.Option(min=0.1, max=600, help=say("option.speed"))] = 60.0,
    stop_after: Annotated[str, typer.Option(metavar="TIME", help=say("option.stop_after"))] = "",
    replay: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help=say("option.replay"))] = None,
    folder: Annotated[Path, typer.Option(help=say("option.demo_folder"))] = Path("coldchain-demo"),
    port: Annotated[int, typer.Option(min=0, max=65535, help=say("option.demo_port"))] = 8080,
) -> None:
    from coldchain.demo.run import DemoOptions, run_demo  # noqa: PLC0415

    wish = DemoOptions(folder=folder, speed=speed, stop_after=stop_after, replay=replay, port=port)
    raise typer.Exit(run_demo(wish, stop_on_signals()))


@command(app, "wechat-sim", "trying")
def wechat_sim(
    folder: Annotated[Path, typer.Option(help=say("option.wechat_folder"))] = Path("wechat-sim"),
    host: Annotated[str, typer.Option(help=say("option.wechat_host"))] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help=say("option.wechat_port"))] = 8090,
    clock: Annotated[str, typer.Option(help=say("option.clock"))] = "",
) -> None:
    from coldchain.checks.network import holder_text  # noqa: PLC0415
    from coldchain.simulate.wechat.service import run  # noqa: PLC0415

    if holder := foreign_holder(host, port, ""):
        raise InvalidSetting(say("up.port_taken", key="--port", port=port, holder=holder_text(holder)))
    logs.set_up("wechat-sim", plain=sys.stderr.isatty())
    run(folder, host=host, port=port, virtual_clock=clock, stop=stop_event())
