"""Report of a run of kills: hits of each fault point, kills of each process, and the counted figures."""

from collections import Counter
from collections.abc import Mapping, Sequence

from tests.scenario.faults import Point
from tests.scenario.oracles import Tally

FIGURES: Sequence[tuple[str, str]] = (
    (
        "batches",
        "{batches_spooled} spooled, {batches_logged} in the log, {batches_lost} lost, {batches_doubled} doubled",
    ),
    (
        "readings",
        (
            "{readings_logged} in the log, {readings_stored} stored, {readings_lost} lost, {readings_doubled} doubled, "
            "{readings_altered} altered, {readings_held} left in quarantine, {dead_letters} dead letters"
        ),
    ),
    (
        "alarms",
        (
            "{episodes} times a fridge was too warm; {alarms_opened} openings, {alarms_missed} missed, "
            "{alarms_doubled} doubled; {alarms_recovered} recovered"
        ),
    ),
    (
        "messages",
        (
            "{steps_fired} steps fired; {messages_told} messages told, {messages_missing} missing, "
            "{messages_doubled} doubled; {messages_superseded} no longer true when their turn came, of which "
            "{messages_unwritten} were received all the same: their sender was killed before it wrote that down"
        ),
    ),
    (
        "people",
        (
            "{alarms_acknowledged} acknowledged, {alarms_handled} handled, each once; "
            "{asked_again} requests asked again, since nobody answered"
        ),
    ),
)


def figures(tally: Tally) -> list[tuple[str, str]]:
    """Return (subject, text with counts) for each line of the report."""
    counted = {name: getattr(tally, name) for name in tally.__struct_fields__}
    return [(what, words.format(**counted)) for what, words in FIGURES]


def lines(heading: str, hits: Mapping[Point, int], kills: Counter[str], tally: Tally) -> list[str]:
    """Return the report as text for a terminal."""
    report = [heading]
    report += [f"  {hits[point]} × {point.process}: {point.name}" for point in hits]
    if kills:
        report.append("  at random: " + ", ".join(f"{name} {number}" for name, number in kills.most_common()))
    report += [f"  {what}: {words}" for what, words in figures(tally)]
    report += [f"  WRONG: {what}" for what in tally.wrong]
    return report
