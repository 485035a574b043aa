"""Command `coldchain demo`: all services on one machine and a virtual clock, watched in a terminal.

A second run in the same folder continues the first: records, readings, phones, ports, and the clock, which stands still
between two runs.
"""

import shutil
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
from rich.console import Console
from rich.live import Live

from coldchain.checks.network import holder_text
from coldchain.demo import screen
from coldchain.demo.county import County, build, recall
from coldchain.demo.environment import address_in
from coldchain.demo.texts import say
from coldchain.demo.watcher import View, Watcher, texts
from coldchain.line_wrapping import wrap
from coldchain.supervisor import Supervisor
from config.catalogue import terminal_language
from config.text_file import UnreadableFile
from core.db.engine import Records, connect, url_for
from core.logger_files.logger_file import LoggerFile
from core.runtime import logs
from core.runtime.barrier import Barrier
from core.runtime.clock import ClockKeeper, monotonic
from core.runtime.instant import MINUTE, Instant, Milliseconds, at_zone
from core.runtime.port_holder import holder_of
from core.runtime.process_lock import AlreadyRunning, single_process

POLL_S = 0.25
SAVE_S = 1.0
UP_POLL_S = 0.1
LINE = ("gateway_agent", "collector", "writer", "alerting")
"""Processes in the order in which a reading passes them."""
TELLING = Milliseconds(70 * MINUTE)
"""By then all levels have been notified of an alarm that a probe is offline."""
FIRST_STEP = 0
"""Number of the question before the clock runs."""
SLOW_AFTER_S = 15.0
"""After this the terminal says that the start takes longer."""
UP_WITHIN_S = 300.0
"""Limit of the start. A busy machine has taken a minute."""
ZONE = ZoneInfo("Asia/Shanghai")


class DemoOptions(msgspec.Struct, frozen=True):
    """Options of the command."""

    folder: Path
    speed: float
    stop_after: str
    replay: Path | None
    port: int


def run_demo(wish: DemoOptions, stop: threading.Event) -> int:
    """Run until `stop`, or until the demo's clock has passed `stop_after`; return the exit code.

    A second demo in the same folder is refused before it has changed anything.
    """
    logs.set_up("demo", level="ERROR")
    folder = wish.folder.resolve()
    try:
        lasting = span(wish.stop_after) if wish.stop_after else None
        kept = recall(folder, wish.replay)
        with single_process(str(folder / "data"), "up", stop, wait=False):
            return _run(wish, build(folder, kept, port=wish.port), lasting, stop)
    except UnreadableFile as error:
        sys.stderr.write(f"coldchain: {error.text(terminal_language())}\n")
    except ValueError as error:
        sys.stderr.write(f"coldchain: {error}\n")
    except AlreadyRunning as error:
        text = say("mistake.already", folder=folder, url=address_in(folder), pid=error.pid)
        sys.stderr.write(f"coldchain: {text}\n")
    return 2


def _run(wish: DemoOptions, county: County, lasting: Milliseconds | None, stop: threading.Event) -> int:
    # Stands still until everything is up. At 60 times its speed the first reading would else be minutes old when it is
    # sent, and come as backlog: the first message would give a later beginning than the page, which knows that reading.
    keeper = ClockKeeper(county.stage.clock_file, start=county.start, speed=0)
    began = keeper.now()
    # Before the agent starts: a run that ended before its last row was spooled has that row polled at once.
    county.goes_on(began)
    settings = county.stage.prepare()
    records = Records(connect(url_for(settings.records.url, settings.data_dir)))
    county.enter(records, settings, keeper.now())
    supervisor = Supervisor([county.stage.wechat(), *county.stage.services()], log_folder=county.stage.folder / "log")
    ends = _Ends(stop, None if lasting is None else Instant(began + lasting), keeper)
    helper = threading.Thread(target=ends.after, args=(keeper, county, supervisor), name="clock", daemon=True)
    watcher = None
    try:
        if _is_up(county, supervisor, stop):
            if not county.replay:
                keeper.run(wish.speed)
            helper.start()
            watcher = Watcher(records, county.stage.wechat_url)
            _watch(watcher, county, supervisor, ends, keeper, wish.port)
    finally:
        ends.stop.set()
        supervisor.end()
        if helper.ident:
            helper.join()
        keeper.close()
        county.stage.close()
    if watcher:
        _say(
            "ended",
            at=clock(keeper.now()),
            readings=county.stored(records, settings),
            alarms=watcher.opened,
            messages=watcher.message_count,
        )
    records.close()
    return 1 if ends.failed or not watcher else 0


def _is_up(county: County, supervisor: Supervisor, stop: threading.Event) -> bool:
    """Wait until phones and pages answer and the first readings have gone all the way; False if that never comes.

    The demo's clock stands still meanwhile, however busy the machine is.
    """
    began = monotonic()
    barrier = Barrier(county.stage.clock_file)
    phones = is_reported = False
    while not stop.wait(UP_POLL_S):
        supervisor.check_processes()
        phones = phones or county.give_phones()
        if phones and county.has_pages() and _are_idle(barrier, FIRST_STEP):
            return True
        waited = monotonic() - began
        if waited > SLOW_AFTER_S and not is_reported:
            _say("starting")
            is_reported = True
        if waited > UP_WITHIN_S:
            sys.stderr.write(f"coldchain: {say('mistake.not_up', folder=county.stage.folder / 'log')}\n")
            return False
    return False


def _watch(
    watcher: Watcher, county: County, supervisor: Supervisor, ends: "_Ends", keeper: ClockKeeper, port: int
) -> None:
    out = _Terminal(county) if sys.stdout.isatty() else _Lines(county)
    if port and county.stage.ports.api != port:
        _say("port_taken", port=port, holder=holder_text(holder_of(port)))
    with out.showing():
        while not ends.wait(POLL_S):
            supervisor.check_processes()
            watcher.restarted(supervisor.restarts(), keeper.now())
            out.show(watcher.view(keeper.now()), keeper.now())
        out.show(watcher.view(keeper.now()), keeper.now())


class _Ends:
    """End of a run: on request, after its time on the demo's clock, or with the last row of its file.

    In a terminal a replayed file stays to be looked at, until Ctrl-C.
    """

    def __init__(self, stop: threading.Event, at: Instant | None, keeper: ClockKeeper) -> None:
        self.stop = stop
        self._at = at
        self._keeper = keeper
        self.failed = False

    def after(self, keeper: ClockKeeper, county: County, supervisor: Supervisor) -> None:
        """Drive the clock until the run ends, and end the run when the clock fails."""
        try:
            if county.replay:
                _replay(keeper, county, supervisor, self)
            else:
                _keep(keeper, self)
        except BaseException:
            self.failed = True
            raise
        finally:
            self.stop.set()

    def wait(self, seconds: float) -> bool:
        return self.stop.wait(seconds) or (self._at is not None and self._keeper.now() >= self._at)


def _keep(keeper: ClockKeeper, ends: _Ends) -> None:
    while not ends.stop.wait(SAVE_S):
        keeper.save()


def _replay(keeper: ClockKeeper, county: County, supervisor: Supervisor, ends: _Ends) -> None:
    """Show each row of the file once everything due by the row before has been done, from spool to alarm."""
    barrier = Barrier(county.stage.clock_file)
    began = keeper.now()
    rows = 0
    for at, value in county.rows():
        if at < began:
            continue  # an earlier run has shown it
        if ends.stop.is_set():
            return
        in_hole = at - keeper.now() > county.offline_after
        with supervisor.paused("gateway") if in_hole else nullcontext():
            if in_hole:
                _pass_hole(keeper, barrier, min(at, Instant(keeper.now() + county.offline_after + TELLING)), ends)
            county.shows(value)
            step = keeper.step_to(at)
        _wait_for(barrier, step, ends)
        rows += 1
    _say("replayed", rows=rows, file=county.replay)
    if sys.stdout.isatty():
        ends.stop.wait()  # somebody wants to look at the curve, and to acknowledge


def _pass_hole(keeper: ClockKeeper, barrier: Barrier, until: Instant, ends: _Ends) -> None:
    """Step the clock through a hole minute by minute while the gateway stands still, until everybody has been told.

    The rest of the hole is jumped. A jump over all of it would raise no alarm: alerting takes it for its own absence.
    """
    while keeper.now() + MINUTE < until and not ends.stop.is_set():
        _wait_for(barrier, keeper.step_to(Instant(keeper.now() + MINUTE)), ends, LINE[1:])


def _wait_for(barrier: Barrier, step: int, ends: _Ends, processes: Sequence[str] = LINE) -> None:
    while not ends.stop.is_set() and not _are_idle(barrier, step, processes):
        pass


def _are_idle(barrier: Barrier, step: int, processes: Sequence[str] = LINE) -> bool:
    """Whether everything due by now has been done, from spool to alarm; waits a second for it."""
    try:
        barrier.wait(processes, step, within_s=1.0)
    except TimeoutError:
        return False
    return True


class _Lines:
    """Output without a terminal: one plain line per event."""

    def __init__(self, county: County) -> None:
        self._county = county

    @contextmanager
    def showing(self) -> Iterator[None]:
        """Print address and sign-in first."""
        _greet(self._county)
        yield

    def show(self, view: View, _now: Instant) -> None:
        """Print what is new."""
        for happening in view.happened:
            sys.stdout.write(f"{clock(happening.at)}  {happening.text}\n")
        sys.stdout.flush()


class _Terminal:
    """Output in a terminal: sign-in and three tables, rewritten in place; events scroll above them."""

    def __init__(self, county: County) -> None:
        self._county = county
        self._texts = texts()
        self._live = Live(console=Console(), auto_refresh=False, screen=False)

    @contextmanager
    def showing(self) -> Iterator[None]:
        """Hold the terminal for the run."""
        _greet(self._county)
        with self._live:
            yield

    def show(self, view: View, now: Instant) -> None:
        """Print what is new and draw the tables."""
        for happening in view.happened:
            # A link on a line of its own is whole in a narrow terminal.
            text = f"{clock(happening.at)}  {happening.text}".replace(" → ", "\n")
            lines = wrap(text, self._live.console.width, indent=2)
            self._live.console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
        size = self._live.console.size
        frame = screen.render(view, now, self._greeting(now), self._texts, rows=size.height - 1)
        self._live.update(frame, refresh=True)

    def _greeting(self, now: Instant) -> list[str]:
        """Return the lines that always stay on the screen: addresses and sign-in."""
        stage = self._county.stage
        return [
            say("screen.pages", url=stage.url, username=self._county.username, password=self._county.password),
            say("screen.phones", url=f"{stage.wechat_url}/sim/", clock=clock(now)),
        ]


def span(text: str) -> Milliseconds:
    """Read a span such as 90s, 45m, 2h or 1d.

    Raises: ValueError.
    """
    units = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
    try:
        length = timedelta(**{units[text[-1:]]: float(text[:-1])})
    except (KeyError, ValueError):
        raise ValueError(say("mistake.span", text=text)) from None
    return Milliseconds(int(length.total_seconds() * 1000))


def clock(at: Instant) -> str:
    """Return an instant on the clock of the demo's site."""
    return at_zone(at, ZONE).strftime("%Y-%m-%d %H:%M:%S")


def _greet(county: County) -> None:
    _say("started", url=county.stage.url, username=county.username, password=county.password)
    _say("phones", url=f"{county.stage.wechat_url}/sim/")
    _say("kept", folder=county.stage.folder)
    if county.logger and county.replay:
        _tell_columns(county.logger, county.replay)


def _tell_columns(logger: LoggerFile, file: Path) -> None:
    """Print which columns of a replayed file are used, and which are not."""
    columns = logger.columns
    time, temperature = " + ".join(map(repr, columns.time)), repr(columns.temperature)
    _say("columns", "replay", file=file.name, rows=len(logger.readings), time=time, temperature=temperature)
    if columns.unused:
        _say("unused", "replay", columns=", ".join(map(repr, columns.unused)))
    if logger.rounded:
        _say("rounded", "replay", rows=logger.rounded)


def _say(what: str, section: str = "happened", **words: object) -> None:
    text = say(f"{section}.{what}", None, **words)
    lines = wrap(text, shutil.get_terminal_size().columns) if sys.stdout.isatty() else [text]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
