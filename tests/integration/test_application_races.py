"""Reviewers who decide at once, and people who execute at once: one decision and one change, on both databases."""

import threading
from collections.abc import Callable

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core.db.engine import Records
from core.devices.tables import Equipment
from core.errors import Conflict, DomainError
from core.workflow import drafts, execution, review, submission
from core.workflow.states import ApplicationState, DecisionOutcome
from core.workflow.tables import Decision, Execution, ReviewStep, Submission
from tests.fixtures.applications import KINDS, NOW, Reviewers

Work = Callable[[Session], object]


@pytest.fixture
def people(records: Records) -> Reviewers:
    return Reviewers(records)


def at_once(people: Reviewers, *works: Work) -> list[object]:
    """Do each work in a thread and a transaction of its own; return their results and errors in the same order."""
    gate = threading.Barrier(len(works))
    results: list[object] = [None] * len(works)

    def run(number: int) -> None:
        gate.wait()
        try:
            with people.records.write() as tx:
                results[number] = works[number](tx)
        except DomainError as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def count(people: Reviewers, table: type) -> int:
    with people.records.read() as tx:
        return tx.scalar(select(func.count()).select_from(table)) or 0


def test_of_two_who_decide_at_once_one_is_told_of_the_other(people: Reviewers) -> None:
    application = people.submitted()
    with people.records.read() as tx:
        step = tx.scalars(select(ReviewStep.id)).one()
    choices = (DecisionOutcome.PASSED_UP, DecisionOutcome.REFUSED)
    actors = [people.actor("county", family) for family in "王李"]

    def deciding(number: int) -> Work:
        return lambda tx: review.decide(tx, actors[number], KINDS, step, choices[number], opinion="as read", now=NOW)

    results = at_once(people, deciding(0), deciding(1))
    decisions = [each for each in results if isinstance(each, Decision)]
    assert len(decisions) == count(people, Decision) == 1
    assert [type(each) for each in results if not isinstance(each, Decision)] == [Conflict]
    passed = decisions[0].outcome is DecisionOutcome.PASSED_UP
    assert people.waits_for(application) == ("city" if passed else None)
    assert people.row(application).state is (ApplicationState.IN_REVIEW if passed else ApplicationState.RETURNED)


def test_a_double_click_is_one_decision(people: Reviewers) -> None:
    people.submitted()
    county = people.actor("county")
    with people.records.read() as tx:
        step = tx.scalars(select(ReviewStep.id)).one()
    decide: Work = lambda tx: review.decide(tx, county, KINDS, step, DecisionOutcome.PASSED_UP, now=NOW).id  # noqa: E731
    results = at_once(people, *[decide] * 4)
    assert len(set(results)) == count(people, Decision) == 1


def test_a_decision_and_a_withdrawal_at_once_leave_one_of_both(people: Reviewers) -> None:
    application = people.submitted()
    county, clinic = people.actor("county"), people.actor("clinic")
    with people.records.read() as tx:
        step = tx.scalars(select(ReviewStep.id)).one()
    at_once(
        people,
        lambda tx: review.decide(tx, county, KINDS, step, DecisionOutcome.PASSED_UP, now=NOW),
        lambda tx: drafts.withdraw(tx, clinic, KINDS, application, now=NOW),
    )
    assert people.row(application).state is ApplicationState.WITHDRAWN, "before or after the decision"
    assert people.waits_for(application) is None


def test_submitting_twice_at_once_submits_once(people: Reviewers) -> None:
    application = people.drafted()
    clinic = people.actor("clinic")
    submit: Work = lambda tx: submission.submit(tx, clinic, KINDS, application, revision=1, now=NOW).state  # noqa: E731
    assert at_once(people, *[submit] * 3) == [ApplicationState.IN_REVIEW] * 3
    assert (count(people, Submission), count(people, ReviewStep)) == (1, 1)


def test_two_who_execute_at_once_change_things_once(people: Reviewers) -> None:
    application = people.filed()
    province = people.actor("province")
    execute: Work = lambda tx: execution.execute(tx, province, KINDS, application, now=NOW).state  # noqa: E731
    assert at_once(people, *[execute] * 3) == [ApplicationState.EXECUTED] * 3
    assert count(people, Execution) == 1
    with people.records.read() as tx:
        assert tx.scalars(select(Equipment.name)).all() == ["海尔冰箱"]
