"""Applications in random trees, moved and decided in any order: only who should decide does, and nothing is skipped."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import select

from core.db.engine import Records, connect
from core.devices.tables import Equipment
from core.errors import DomainError
from core.ids import ApplicationId, UnitId
from core.runtime.instant import Instant
from core.units import tree
from core.units.actor import OPERATOR, Actor, Holding
from core.units.rights import Role, rights_of
from core.units.tables import Person, Unit
from core.units.unit_levels import Level, UnitKind, may_hang
from core.workflow import drafts, execution, queries, review, submission
from core.workflow.form import DraftContent
from core.workflow.states import ApplicationState, DecisionOutcome
from core.workflow.tables import Application, Decision, Execution, ReviewStep, Submission
from tests.fixtures.applications import CODE, KINDS, NOW, ROW
from tests.fixtures.county import add_unit
from tests.fixtures.databases import fresh_url

ORDER = list(Level)
REVIEWING = (Level.COUNTY, Level.CITY, Level.PROVINCE)
pick = st.integers(0, 10_000)


class Applications(RuleBasedStateMachine):
    """A tree in which levels may be missing, two people in each unit, and the applications of some of its units."""

    database = "sqlite"

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="cc-machine-")
        self.records = Records(connect(fresh_url(self.database, Path(self.folder.name))))
        self.now = NOW
        self.units: list[UnitId] = []
        self.applications: list[ApplicationId] = []
        self.equipment = 0

    @initialize(
        shape=st.lists(
            st.tuples(st.sampled_from([UnitKind.CDC, UnitKind.CDC, UnitKind.POV]), st.sampled_from(Level), pick),
            min_size=3,
            max_size=9,
        )
    )
    def a_tree(self, shape: list[tuple[UnitKind, Level, int]]) -> None:
        with self.records.write() as tx:
            rows = [add_unit(tx, "省", level="province")]
            for number, (kind, level, place) in enumerate(shape):
                above = [row for row in rows if may_hang(kind, level, row.kind, row.level)]
                if above:
                    rows.append(add_unit(tx, f"单位{number}", above[place % len(above)], level=level, kind=kind))
            for row in rows:
                row.code = f"{6101030000 + row.id}"
                tx.add_all(Person(unit_id=row.id, name=f"{row.name}{family}") for family in "王李")
            self.units = [row.id for row in rows]

    def person(self, unit: UnitId, which: int) -> Actor:
        with self.records.read() as tx:
            row = tx.get_one(Unit, unit)
            people = tx.scalars(select(Person.id).where(Person.unit_id == unit).order_by(Person.id)).all()
            person = people[which % 2]
            return Actor(
                f"person:{person}", (Holding(row.path, rights_of(Role.BUSINESS_ADMIN, row.level)),), person=person
            )

    def expected_reviewer(self, tx: Any, application: Application) -> UnitId | None:
        """Return who must review next, found by walking up the parents; None for nobody."""
        decided = tx.scalars(
            select(ReviewStep.level)
            .join(Decision, Decision.step_id == ReviewStep.id)
            .where(ReviewStep.application_id == application.id, ReviewStep.round == application.round)
        ).all()
        highest = min((ORDER.index(level) for level in decided), default=len(ORDER))
        unit = tx.get_one(Unit, application.unit_id)
        if unit.level is Level.PROVINCE and unit.kind is UnitKind.CDC and not decided:
            return unit.id
        while unit.parent_id is not None:
            unit = tx.get_one(Unit, unit.parent_id)
            if unit.kind is UnitKind.CDC and unit.level in REVIEWING and ORDER.index(unit.level) < highest:
                return unit.id
        return None

    @rule(unit=pick, which=pick)
    def somebody_files(self, unit: int, which: int) -> None:
        of = self.units[unit % len(self.units)]
        self.equipment += 1
        with self.records.write() as tx:
            code = tx.get_one(Unit, of).code
            tx.add(Equipment(code=f"E-{self.equipment}", name="美菱冰箱", kind="fridge"))
        content = DraftContent({"unit_code": code or CODE}, [{**ROW, "code": f"E-{self.equipment}"}])
        with self.records.write() as tx:
            actor = self.person(of, which)
            row = drafts.create_draft(tx, actor, KINDS, "renaming", of, content, now=self.now)
            submission.submit(tx, actor, KINDS, row.id, revision=1, now=self.now)
            self.applications.append(row.id)

    @precondition(lambda self: self.applications)
    @rule(which=pick, outcome=st.sampled_from(DecisionOutcome), unit=st.one_of(st.none(), pick), person=pick)
    def somebody_decides(self, which: int, outcome: DecisionOutcome, unit: int | None, person: int) -> None:
        """Mostly a person of the unit that it waits for; sometimes anybody."""
        self.now = Instant(self.now + 1)
        application = self.applications[which % len(self.applications)]
        with self.records.read() as tx:
            row = tx.get_one(Application, application)
            waiting = queries.open_step(tx, row)
            if waiting is None:
                return
            expected = self.expected_reviewer(tx, row)
            step = waiting[0].id
        asker = self.units[unit % len(self.units)] if unit is not None else (expected or waiting[1].id)
        try:
            with self.records.write() as tx:
                actor = self.person(asker, person)
                decision = review.decide(tx, actor, KINDS, step, outcome, opinion="意见", now=self.now)
                reviewed = tx.get_one(ReviewStep, decision.step_id)
                assert reviewed.unit_id == asker == expected, "only the unit that is next now"
                assert outcome is not DecisionOutcome.FINAL_HERE or reviewed.level is Level.CITY
        except DomainError:
            return

    @precondition(lambda self: self.applications)
    @rule(which=pick, times=st.integers(1, 4))
    def it_is_passed_up(self, which: int, times: int) -> None:
        for _ in range(times):
            for person in (0, 1):
                self.somebody_decides(which, DecisionOutcome.PASSED_UP, None, person)

    @precondition(lambda self: self.applications)
    @rule(which=pick, person=pick)
    def somebody_submits_again(self, which: int, person: int) -> None:
        application = self.applications[which % len(self.applications)]
        with self.records.read() as tx:
            row = tx.get_one(Application, application)
        if row.state not in (ApplicationState.RETURNED, ApplicationState.WITHDRAWN):
            return
        with self.records.write() as tx:
            actor = self.person(row.unit_id, person)
            after = submission.submit(tx, actor, KINDS, application, revision=row.revision, now=self.now)
            assert after.round == row.round + 1

    @precondition(lambda self: self.applications)
    @rule(which=pick)
    def somebody_withdraws(self, which: int) -> None:
        application = self.applications[which % len(self.applications)]
        with self.records.read() as tx:
            row = tx.get_one(Application, application)
        try:
            with self.records.write() as tx:
                drafts.withdraw(tx, self.person(row.unit_id, 0), KINDS, application, now=self.now)
        except DomainError:
            assert row.state in (ApplicationState.FILED, ApplicationState.EXECUTED)

    @rule(unit=pick, place=pick)
    def a_unit_is_moved(self, unit: int, place: int) -> None:
        try:
            with self.records.write() as tx:
                moved, parent = (tx.get_one(Unit, self.units[number % len(self.units)]) for number in (unit, place))
                if moved.parent_id is not None:
                    tree.move_unit(tx, OPERATOR, moved, parent, now=self.now)
        except DomainError:
            return

    @rule()
    def the_tick_comes(self) -> None:
        with self.records.write() as tx:
            review.follow_moved_units(tx, KINDS, now=self.now)
        with self.records.read() as tx:
            for step in tx.scalars(select(ReviewStep).where(ReviewStep.closed_at.is_(None))):
                expected = self.expected_reviewer(tx, tx.get_one(Application, step.application_id))
                assert step.unit_id == expected

    @precondition(lambda self: self.applications)
    @rule(which=pick)
    def the_province_executes(self, which: int) -> None:
        application = self.applications[which % len(self.applications)]
        try:
            with self.records.write() as tx:
                row = execution.execute(tx, self.person(self.units[0], 0), KINDS, application, now=self.now)
                assert row.state is ApplicationState.EXECUTED
        except DomainError:
            return

    @invariant()
    def everything_that_stands_is_in_order(self) -> None:
        with self.records.read() as tx:
            for row in tx.scalars(select(Application)):
                self.check(tx, row)
            executed = tx.scalars(select(Execution.application_id)).all()
            assert len(executed) == len(set(executed))

    def check(self, tx: Any, row: Application) -> None:
        steps = tx.scalars(select(ReviewStep).where(ReviewStep.application_id == row.id).order_by(ReviewStep.id)).all()
        open_steps = [step for step in steps if step.closed_at is None]
        assert len(open_steps) == (1 if row.state is ApplicationState.IN_REVIEW else 0)
        assert all(step.round == row.round for step in open_steps)
        decisions = {
            each.step_id: each for each in tx.scalars(select(Decision).where(Decision.application_id == row.id))
        }
        filers = {
            each.round: each.actor for each in tx.scalars(select(Submission).where(Submission.application_id == row.id))
        }
        for number in range(1, row.round + 1):
            decided = [
                (step.level, decisions[step.id]) for step in steps if step.round == number and step.id in decisions
            ]
            heights = [ORDER.index(level) for level, _ in decided]
            assert heights == sorted(set(heights), reverse=True), "level by level, none twice"
            actors = [decision.actor for _, decision in decided]
            assert len(actors) == len(set(actors))
            assert filers[number] not in actors
            outcomes = [decision.outcome for _, decision in decided]
            assert all(outcome is DecisionOutcome.PASSED_UP for outcome in outcomes[:-1])
            if number == row.round and row.state in (ApplicationState.FILED, ApplicationState.EXECUTED):
                level, last = decided[-1]
                assert level is Level.PROVINCE or last.outcome is DecisionOutcome.FINAL_HERE
                assert last.outcome is not DecisionOutcome.REFUSED
            elif number < row.round and outcomes and DecisionOutcome.REFUSED not in outcomes:
                assert Level.PROVINCE not in {level for level, _ in decided}, "filed, and then begun again"

    def teardown(self) -> None:
        self.records.close()
        self.folder.cleanup()


class ApplicationsOnPostgres(Applications):
    database = "postgresql"


TestApplications = Applications.TestCase
TestApplications.settings = settings(max_examples=8, stateful_step_count=20, deadline=None)


@pytest.mark.long
class TestApplicationsAtLength(Applications.TestCase):
    settings = settings(max_examples=300, stateful_step_count=50, deadline=None)


@pytest.mark.long
class TestApplicationsOnPostgres(ApplicationsOnPostgres.TestCase):
    settings = settings(max_examples=20, stateful_step_count=40, deadline=None)
