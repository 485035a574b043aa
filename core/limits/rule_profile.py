"""Rule profiles: limits, rule settings and escalation policy of zones, read from `config/rules`.

A zone names its profile and may override limits, delay and hysteresis (AL-13). An invalid profile is refused; the error
names file, key, value and what would be valid. Tested by tests/unit/test_rule_profiles.py.
"""

import re
from functools import cache
from importlib import resources
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from config.text_file import UnreadableFile, parse_toml
from core.ids import Centi
from core.rules.bad_sensor import SensorTrust
from core.rules.excursion import Limit, Side
from core.rules.live_state import Bounds
from core.rules.offline import OfflineLimit
from core.runtime.instant import HOUR, MINUTE, Milliseconds

DEFAULT = "china-2017"

Minutes = Annotated[int, Meta(ge=0, le=7 * 24 * 60)]
Hundredths = Annotated[int, Meta(ge=-27_315, le=15_000)]
Few = Annotated[int, Meta(ge=1, le=100)]


class InvalidRuleProfile(Exception):
    """An invalid profile. The text names file, key and value, and says what would be valid."""


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of the tables in a profile file: unknown keys are refused."""


class BandLimit(_Table, frozen=True, kw_only=True):
    """One limit, in hundredths of a degree, and the delay before an alarm opens."""

    limit: Hundredths
    delay_min: Minutes


class Band(_Table, frozen=True, kw_only=True):
    """Temperature range of a kind of zone; one of the limits may be missing."""

    high: BandLimit | None = None
    low: BandLimit | None = None
    hysteresis: Annotated[int, Meta(ge=0, le=1_000)]


class Bands(_Table, frozen=True, kw_only=True):
    """Temperature ranges of all kinds of zones."""

    refrigerated: Band
    frozen: Band
    ultra_low: Band
    room: Band

    def get(self, kind: str) -> Band | None:
        """Return the range of a kind, or None for an unknown kind."""
        return getattr(self, kind) if kind in self.__struct_fields__ else None


class ExcursionTable(_Table, frozen=True, kw_only=True):
    """Settings of the excursion rule."""

    gap_intervals: Few
    well_inside_min: Minutes
    inside_min: Minutes


class OfflineTable(_Table, frozen=True, kw_only=True):
    """Time that a probe may be silent: the longer of the two."""

    intervals: Few
    at_least_min: Minutes


class SensorTable(_Table, frozen=True, kw_only=True):
    """Settings of the sensor rule."""

    good: Few
    stuck_hours: Annotated[int, Meta(ge=0, le=24 * 30)]


class EscalationPolicy(_Table, frozen=True, kw_only=True):
    """Escalation policy. It is copied into an alarm at its opening, so that a later edit doesn't change it."""

    steps_min: list[Minutes]
    """Minutes after the opening at which level 2 and then level 3 is told."""
    repeat_min: Minutes
    acknowledging_stops_escalation: bool
    acknowledge_within_min: Minutes
    merge_min: Minutes
    floor_min: Minutes

    def offsets(self) -> list[tuple[int, Milliseconds]]:
        """Return (tier, time after the opening) of every step."""
        return [(tier, Milliseconds(after * MINUTE)) for tier, after in enumerate([0, *self.steps_min], 1)]

    @property
    def top(self) -> int:
        """Return the last tier, which is repeated."""
        return len(self.steps_min) + 1


class RuleProfile(_Table, frozen=True, kw_only=True):
    """Rule profile: one file of `config/rules`."""

    title: str
    zones: Bands
    evidence: ExcursionTable
    offline: OfflineTable
    sensor: SensorTable
    policy: EscalationPolicy

    @property
    def offline_limit(self) -> OfflineLimit:
        """Return the time that a probe may be silent."""
        return OfflineLimit(intervals=self.offline.intervals, at_least=Milliseconds(self.offline.at_least_min * MINUTE))

    def held_to(self, kind: str, low: Centi | None, high: Centi | None) -> tuple[Centi | None, Centi | None]:
        """Return low and high limit of a zone: its own limits, or else those of the profile for its kind."""
        band = self.zones.get(kind)
        return (
            Centi(band.low.limit) if low is None and band and band.low else low,
            Centi(band.high.limit) if high is None and band and band.high else high,
        )


class ZoneOverrides(msgspec.Struct, frozen=True, kw_only=True):
    """Overrides of a zone; None takes the profile's value."""

    low: Centi | None = None
    high: Centi | None = None
    delay: Milliseconds | None = None
    hysteresis: Centi | None = None


def names() -> list[str]:
    """Return the names of all profiles."""
    return sorted(file.name.removesuffix(".toml") for file in _folder().iterdir() if file.name.endswith(".toml"))


@cache
def load(name: str) -> RuleProfile:
    """Return a profile by name.

    Raises: InvalidRuleProfile.
    """
    if name not in names():
        msg = f"there is no rule profile {name!r}; known: {', '.join(names())}"
        raise InvalidRuleProfile(msg)
    return parse((_folder() / f"{name}.toml").read_text("utf-8"), f"config/rules/{name}.toml")


def load_or_default(name: str) -> RuleProfile:
    """Return a profile by name, or the default profile for an unknown name, so that a zone always has limits."""
    return load(name if name in names() else DEFAULT)


def parse(text: str, source: str) -> RuleProfile:
    """Parse and check a profile; errors name it by `source`.

    Raises: InvalidRuleProfile.
    """
    try:
        raw = parse_toml(text, source)
        profile = msgspec.convert(raw, RuleProfile)
    except UnreadableFile as error:
        raise InvalidRuleProfile(str(error)) from None
    except msgspec.ValidationError as error:
        raise InvalidRuleProfile(_explain(raw, source, str(error))) from None
    for kind in Bands.__struct_fields__:
        band: Band = getattr(profile.zones, kind)
        where = f"{source}: zones.{kind}"
        if band.high is None and band.low is None:
            msg = f"{where}: has neither high nor low; give it at least one limit"
            raise InvalidRuleProfile(msg)
        width = band.high.limit - band.low.limit if band.high and band.low else None
        if width is not None and width <= 2 * band.hysteresis:
            msg = f"{where}: high - low must be more than twice the hysteresis of {band.hysteresis}"
            raise InvalidRuleProfile(msg)
    steps = profile.policy.steps_min
    if not 1 <= len(steps) <= 2 or sorted(set(steps)) != steps or steps[0] == 0:  # noqa: PLR2004  # three levels
        msg = f"{source}: policy.steps_min = {steps}: must be one or two rising numbers of minutes, such as [30, 60]"
        raise InvalidRuleProfile(msg)
    return profile


def bounds(profile: RuleProfile, kind: str, interval: Milliseconds, own: ZoneOverrides) -> Bounds:
    """Return the bounds of a probe read every `interval` in a zone of a kind, with the zone's overrides `own`."""
    band = profile.zones.get(kind) or Band(hysteresis=0)
    gap = Milliseconds(profile.evidence.gap_intervals * interval)
    hysteresis = band.hysteresis if own.hysteresis is None else own.hysteresis

    def limit(side: Side, default: BandLimit | None, value: Centi | None) -> Limit | None:
        if value is None and default is not None:
            value = Centi(default.limit)
        if value is None:
            return None
        delay = Milliseconds((default.delay_min if default else _longest_delay(band)) * MINUTE)
        return Limit(
            side=side,
            value=value,
            delay=delay if own.delay is None else own.delay,
            hysteresis=Centi(hysteresis),
            interval=interval,
            gap=gap,
            well_inside=Milliseconds(profile.evidence.well_inside_min * MINUTE),
            inside=Milliseconds(profile.evidence.inside_min * MINUTE),
        )

    stuck = profile.sensor.stuck_hours
    return Bounds(
        above=limit(Side.ABOVE, band.high, own.high),
        below=limit(Side.BELOW, band.low, own.low),
        trust=SensorTrust(good=profile.sensor.good, stuck=Milliseconds(stuck * HOUR) if stuck else None, gap=gap),
        gap=gap,
    )


def _longest_delay(band: Band) -> int:
    return max((side.delay_min for side in (band.high, band.low) if side), default=0)


def _folder() -> Any:  # noqa: ANN401  # importlib's Traversable moved between the Pythons that we support
    return resources.files("config") / "rules"


def _explain(raw: dict[str, Any], source: str, problem: str) -> str:
    reason, _, location = problem.partition(" - at `$")
    path = location.rstrip("`").removeprefix(".")
    value: Any = raw
    for key in re.findall(r"[^.\[\]]+", path):
        try:
            value = value[int(key)] if isinstance(value, list) else value[key]
        except (KeyError, IndexError, ValueError, TypeError):
            return f"{source}: {path}: {reason}"
    if isinstance(value, dict):
        return f"{source}: {path or 'the file'}: {reason}"
    return f"{source}: {path} = {value!r}: {reason}"
