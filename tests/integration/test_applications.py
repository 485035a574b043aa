"""Applications from draft to filing: revisions, faults, reviewers, rounds and withdrawals, on both databases."""

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError

from core.db.audit import Audit
from core.db.engine import Records
from core.devices.tables import Equipment
from core.errors import Conflict, Invalid, NotFound, PermissionDenied
from core.ids import ReviewStepId
from core.runtime.instant import HOUR, Instant
from core.units import tree
from core.units.actor import OPERATOR
from core.units.rights import Role
from core.units.tables import Person, Unit
from core.workflow import drafts, execution, queries, review, submission
from core.workflow.drafts import NewAttachment
from core.workflow.form import CellFault, DraftContent, FormRejected
from core.workflow.form_records import faults_of, frozen_form, rows_of
from core.workflow.states import ApplicationState, DecisionOutcome
from core.workflow.tables import LARGEST_ATTACHMENT, Application, ApplicationRow, Decision, Execution, ReviewStep
from tests.fixtures.applications import CODE, CONTENT, KINDS, NOW, ROW, Reviewers

PASSED, REFUSED, FINAL = DecisionOutcome.PASSED_UP, DecisionOutcome.REFUSED, DecisionOutcome.FINAL_HERE


@pytest.fixture
def people(records: Records) -> Reviewers:
    return Reviewers(records)


def equipment_name(people: Reviewers) -> str:
    with people.records.read() as tx:
        return tx.scalars(select(Equipment.name)).one()


@pytest.mark.req("HW-03")
def test_a_form_passes_county_city_and_province_in_order_and_is_then_filed(people: Reviewers) -> None:
    application = people.submitted()
    for waiting, after in (("county", 1), ("city", 2), ("province", 3)):
        assert people.waits_for(application) == waiting
        for skipping in {"county", "city", "province"} - {waiting}:
            with pytest.raises((PermissionDenied, NotFound)):
                people.decided(application, skipping, after=after)
        people.decided(application, waiting, opinion=f"{waiting} agrees", after=after)
    row = people.row(application)
    assert (row.state, row.filed_at) == (ApplicationState.FILED, NOW + 3)
    with people.records.read() as tx:
        found = queries.history(tx, row)
    said = [
        (step.unit.id, step.decision.person_name, step.decision.opinion, step.decision.at)
        for step in found.steps
        if step.decision
    ]
    assert said == [
        (people.units["county"], "新城区疾控中心的王", "county agrees", NOW + 1),
        (people.units["city"], "西安市疾控中心的王", "city agrees", NOW + 2),
        (people.units["province"], "陕西省疾控中心的王", "province agrees", NOW + 3),
    ]
    assert [(each.person_name, each.at) for each in found.submissions] == [("某某卫生院的王", NOW)]


def test_all_faults_are_told_at_once_by_row_and_column_and_nothing_is_submitted(people: Reviewers) -> None:
    rows = [ROW, {"code": "B-99", "before": "x" * 101, "after": " "}, {"code": ""}]
    application = people.drafted(DraftContent({"unit_code": "610103020"}, rows))
    with pytest.raises(FormRejected) as rejected:
        people.submit(application)
    assert [(fault.row, fault.column) for fault in rejected.value.faults] == [
        (0, "unit_code"),
        (2, "code"),
        (2, "before"),
        (2, "after"),
        (3, "code"),
        (3, "before"),
        (3, "after"),
    ]
    assert people.row(application).state is ApplicationState.DRAFT
    assert people.waits_for(application) is None
    with people.records.read() as tx:
        assert {row.resolved for row in tx.scalars(select(ApplicationRow))} == {"{}"}


@pytest.mark.parametrize("written", ["610103020", "61010302033", "610103020X", "６１０１０３０２０３", "6101030204"])
def test_a_code_that_isnt_the_units_ten_digits_is_refused(people: Reviewers, written: str) -> None:
    application = people.drafted(DraftContent({"unit_code": written}, [ROW]))
    with pytest.raises(FormRejected) as rejected:
        people.submit(application)
    assert [(fault.row, fault.column) for fault in rejected.value.faults] == [(0, "unit_code")]


def test_warnings_pass_and_are_kept_with_their_row(people: Reviewers) -> None:
    application = people.submitted(DraftContent({"unit_code": CODE}, [{**ROW, "after": "海尔冰箱海尔冰箱海尔冰箱"}]))
    with people.records.read() as tx:
        _, row = rows_of(tx, tx.get_one(Application, application))
    assert faults_of(row.warnings) == [CellFault(1, "after", "a long name", is_warning=True)]


def test_the_second_of_two_writers_is_told(people: Reviewers) -> None:
    application = people.drafted()
    clinic = people.actor("clinic")
    with people.records.write() as tx:
        saved = drafts.save_draft(tx, clinic, KINDS, application, DraftContent(), revision=1, now=NOW)
        assert saved.revision == 2
    with pytest.raises(Conflict, match="at revision 2, you saw 1"), people.records.write() as tx:
        drafts.save_draft(tx, clinic, KINDS, application, CONTENT, revision=1, now=NOW)
    with pytest.raises(Conflict), people.records.write() as tx:
        submission.submit(tx, clinic, KINDS, application, revision=1, now=NOW)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(DraftContent({"colour": "red"}), id="an unknown field"),
        pytest.param(DraftContent({}, [{"unit_code": CODE}]), id="a field in a row"),
        pytest.param(DraftContent({}, [{"note": "x" * 501}]), id="a long text"),
        pytest.param(DraftContent({}, [{"note": "a\x00b"}]), id="a NUL"),
        pytest.param(DraftContent({}, [{}] * 101), id="many rows"),
    ],
)
def test_a_draft_may_be_faulty_but_not_strange(people: Reviewers, content: DraftContent) -> None:
    with pytest.raises(Invalid):
        people.drafted(content)
    people.drafted(DraftContent({}, [{"code": "?"}]))


def test_submitting_the_same_revision_again_changes_nothing(people: Reviewers) -> None:
    application = people.drafted()
    for _ in range(2):
        with people.records.write() as tx:
            row = submission.submit(tx, people.actor("clinic"), KINDS, application, revision=1, now=NOW)
            assert (row.state, row.revision) == (ApplicationState.IN_REVIEW, 2)
    with people.records.read() as tx:
        assert tx.scalar(select(func.count()).select_from(ReviewStep)) == 1


def test_the_same_decision_again_gets_the_same_answer_and_another_is_refused(people: Reviewers) -> None:
    application = people.submitted()
    county = people.actor("county")
    with people.records.read() as tx:
        waiting = queries.open_step(tx, tx.get_one(Application, application))
        assert waiting is not None
        step = waiting[0].id
    answers = []
    for after in (1, 2):
        with people.records.write() as tx:
            answers.append(review.decide(tx, county, KINDS, step, PASSED, opinion="ok", now=Instant(NOW + after)))
    assert [(each.id, each.at) for each in answers] == [(answers[0].id, NOW + 1)] * 2
    for actor, outcome in ((county, REFUSED), (people.actor("county", "李"), PASSED)):
        with pytest.raises(Conflict, match="新城区疾控中心的王 has decided"), people.records.write() as tx:
            review.decide(tx, actor, KINDS, step, outcome, opinion="ok", now=NOW)
    assert people.waits_for(application) == "city"


def test_nobody_decides_what_they_filed_nor_twice_in_a_round(people: Reviewers) -> None:
    """A person who works for two levels has both rights, and still decides once."""
    application = people.submitted()
    county, city = people.actor("county"), people.actor("city")
    filer = people.actor("clinic")
    both = type(county)(county.name, (*county.holdings, *city.holdings), person=county.person)
    filed_and_reviews = type(filer)("account:99", (*filer.holdings, *county.holdings), person=filer.person)
    with people.records.read() as tx:
        step = tx.scalars(select(ReviewStep.id)).one()
    with pytest.raises(PermissionDenied, match="filed this application yourself"), people.records.write() as tx:
        review.decide(tx, filed_and_reviews, KINDS, step, PASSED, now=NOW)
    with people.records.write() as tx:
        review.decide(tx, both, KINDS, step, PASSED, now=NOW)
    with pytest.raises(PermissionDenied, match="decided in this round"), people.records.write() as tx:
        review.decide(tx, both, KINDS, ReviewStepId(step + 1), PASSED, now=NOW)
    people.decided(application, "city", family="李")
    assert people.waits_for(application) == "province"


def test_a_refusal_needs_an_opinion_and_the_next_round_begins_at_the_first_level(people: Reviewers) -> None:
    application = people.submitted()
    people.decided(application, "county")
    with pytest.raises(Invalid, match="opinion"):
        people.decided(application, "city", REFUSED)
    people.decided(application, "city", REFUSED, opinion="探头编码不对")
    assert people.row(application).state is ApplicationState.RETURNED
    corrected = DraftContent({"unit_code": CODE}, [{**ROW, "after": "新飞冰箱"}])
    with people.records.write() as tx:
        revision = tx.get_one(Application, application).revision
        drafts.save_draft(tx, people.actor("clinic"), KINDS, application, corrected, revision=revision, now=NOW)
    people.submit(application)
    assert people.row(application).round == 2
    for unit in ("county", "city", "province"):
        assert people.waits_for(application) == unit
        people.decided(application, unit)
    with people.records.read() as tx:
        row = tx.get_one(Application, application)
        assert (row.state, frozen_form(tx, row).rows[0]["after"]) == (ApplicationState.FILED, "新飞冰箱")
        assert rows_of(tx, row, 1)[1].resolved.count("海尔冰箱") == 1, "the first round stays as it was reviewed"
        outcomes = tx.scalars(select(Decision.outcome).order_by(Decision.id)).all()
    assert outcomes == [PASSED, REFUSED, PASSED, PASSED, PASSED]


def test_a_returned_form_can_be_submitted_again_as_it_is(people: Reviewers) -> None:
    application = people.submitted()
    people.decided(application, "county", REFUSED, opinion="?")
    people.submit(application)
    assert (people.row(application).round, people.waits_for(application)) == (2, "county")


def test_final_review_at_this_level_files_it_only_where_the_kind_allows(people: Reviewers) -> None:
    application = people.submitted()
    with pytest.raises(Invalid, match="can't decide finally"):
        people.decided(application, "county", FINAL)
    people.decided(application, "county")
    people.decided(application, "city", FINAL)
    assert people.row(application).state is ApplicationState.FILED


def test_a_form_of_the_province_is_confirmed_by_its_second_person(people: Reviewers) -> None:
    with people.records.write() as tx:
        tx.get_one(Unit, people.units["province"]).code = "6100000001"
    application = people.submitted(DraftContent({"unit_code": "6100000001"}, [ROW]), "province")
    assert people.waits_for(application) == "province"
    with pytest.raises(PermissionDenied, match="filed this application yourself"):
        people.decided(application, "province", family="王")
    people.decided(application, "province", family="李")
    assert people.row(application).state is ApplicationState.FILED


def test_what_is_not_filed_can_be_withdrawn_and_begun_again(people: Reviewers) -> None:
    application = people.submitted()
    with people.records.write() as tx:
        drafts.withdraw(tx, people.actor("clinic"), KINDS, application, now=NOW)
    assert (people.row(application).state, people.waits_for(application)) == (ApplicationState.WITHDRAWN, None)
    people.submit(application)
    for unit in ("county", "city", "province"):
        people.decided(application, unit)
    with pytest.raises(Conflict, match="filed"), people.records.write() as tx:
        drafts.withdraw(tx, people.actor("clinic"), KINDS, application, now=NOW)


def test_a_moved_units_form_goes_on_above_the_levels_that_have_decided(people: Reviewers) -> None:
    application = people.submitted()
    people.decided(application, "county")
    assert people.waits_for(application) == "city"
    with people.records.write() as tx:
        clinic, other = (tx.get_one(Unit, people.units[name]) for name in ("clinic", "other county"))
        tree.move_unit(tx, OPERATOR, clinic, other, now=NOW)
    with pytest.raises(NotFound):
        people.decided(application, "city")
    people.decided(application, "province")
    assert people.row(application).state is ApplicationState.FILED
    with people.records.read() as tx:
        steps = [
            (each.unit.id, each.decision is not None) for each in queries.history(tx, people.row(application)).steps
        ]
    county, city, province = (people.units[name] for name in ("county", "city", "province"))
    assert steps == [(county, True), (city, False), (province, True)]


def test_a_tick_shows_a_moved_units_form_to_its_new_reviewer(people: Reviewers) -> None:
    application = people.submitted()
    with people.records.write() as tx:
        clinic, other = (tx.get_one(Unit, people.units[name]) for name in ("clinic", "other county"))
        tree.move_unit(tx, OPERATOR, clinic, other, now=NOW)
    for moved in (1, 0):
        with people.records.write() as tx:
            assert review.follow_moved_units(tx, KINDS, now=NOW) == moved
    with people.records.read() as tx:
        assert [each.application.id for each in queries.inbox(tx, people.actor("other county"), after=0, limit=9)] == [
            application
        ]
        assert not queries.inbox(tx, people.actor("county"), after=0, limit=9)


def test_an_inbox_has_what_waits_for_exactly_ones_own_unit(people: Reviewers) -> None:
    application = people.submitted()
    with people.records.read() as tx:
        for unit, waiting in (("county", [application]), ("city", []), ("province", []), ("clinic", [])):
            found = queries.inbox(tx, people.actor(unit), after=0, limit=9)
            assert [each.application.id for each in found] == waiting
        assert not queries.inbox(tx, people.actor("county", role=Role.USER), after=0, limit=9)


def test_a_name_in_the_history_stays_when_the_person_is_renamed_and_leaves(people: Reviewers) -> None:
    application = people.submitted()
    people.decided(application, "county")
    with people.records.write() as tx:
        for person in tx.scalars(select(Person)):
            person.name, person.left_at = f"someone {person.id}", NOW
    with people.records.read() as tx:
        decision = queries.history(tx, people.row(application)).steps[0].decision
    assert decision is not None
    assert decision.person_name == "新城区疾控中心的王"


def test_a_form_that_was_changed_behind_the_reviewers_back_cant_be_decided(people: Reviewers) -> None:
    application = people.submitted()
    with people.records.write() as tx:
        tx.execute(text("UPDATE application_row SET written = '{}' WHERE number = 1"))
    with pytest.raises(Conflict, match="isn't the one that you saw"):
        people.decided(application, "county")


def test_a_reviewer_who_saw_another_form_is_refused(people: Reviewers) -> None:
    people.submitted()
    with people.records.read() as tx:
        step = tx.scalars(select(ReviewStep.id)).one()
    with pytest.raises(Conflict), people.records.write() as tx:
        review.decide(tx, people.actor("county"), KINDS, step, PASSED, seen_hash=b"\0" * 32, now=NOW)


@pytest.mark.parametrize("table", ["submission", "decision", "execution"])
def test_what_was_signed_can_be_neither_edited_nor_removed(people: Reviewers, table: str) -> None:
    application = people.filed()
    with people.records.write() as tx:
        execution.execute(tx, people.actor("province"), KINDS, application, now=NOW)
    for change in (f"UPDATE {table} SET actor = 'x'", f"DELETE FROM {table}"):
        with pytest.raises(IntegrityError, match="append only"), people.records.write() as tx:
            tx.execute(text(change))


def test_a_decision_is_late_only_after_its_time(people: Reviewers) -> None:
    application = people.submitted()
    with people.records.read() as tx:
        step = tx.scalars(select(ReviewStep)).one()
        assert [each.id for each in queries.overdue_steps(tx, Instant(NOW + 2 * HOUR))] == []
        assert [each.id for each in queries.overdue_steps(tx, Instant(NOW + 2 * HOUR + 1))] == [step.id]
    assert not review.is_late(step, Instant(NOW + 2 * HOUR))
    assert review.is_late(step, Instant(NOW + 2 * HOUR + 1))
    people.decided(application, "county", after=2 * HOUR + 1)


def test_who_may_not_see_a_unit_finds_nothing_of_it(people: Reviewers) -> None:
    application = people.submitted()
    stranger = people.actor("other county")
    with people.records.read() as tx:
        with pytest.raises(NotFound):
            queries.visible_application(tx, stranger, application)
        everything = queries.ApplicationFilter()
        assert not queries.visible_applications(tx, stranger, everything, before=None, limit=9)
        assert len(queries.visible_applications(tx, people.actor("county"), everything, before=None, limit=9)) == 1
    with pytest.raises(NotFound), people.records.write() as tx:
        drafts.withdraw(tx, stranger, KINDS, application, now=NOW)
    with pytest.raises(NotFound):
        people.decided(application, "other county")


def test_a_temporary_site_files_nothing_itself(people: Reviewers) -> None:
    with people.records.write() as tx:
        clinic = tx.get_one(Unit, people.units["clinic"])
        clinic.kind, clinic.code = "temp_site", None
    with pytest.raises(Invalid, match="temporary site"):
        people.drafted()


def test_attachments_go_along_into_the_next_round_and_have_a_largest_size(people: Reviewers) -> None:
    application = people.drafted()
    clinic = people.actor("clinic")
    photo = NewAttachment("探头.jpg", "image/jpeg", b"\xff" * LARGEST_ATTACHMENT)
    with people.records.write() as tx:
        drafts.attach(tx, clinic, KINDS, application, photo, revision=1, now=NOW)
    for wrong in (
        NewAttachment("x.jpg", "image/jpeg", photo.content + b"\0"),
        NewAttachment("x.jpg", "image/jpeg", b""),
        NewAttachment("x.html", "text/html", b"x"),
    ):
        with pytest.raises(Invalid), people.records.write() as tx:
            drafts.attach(tx, clinic, KINDS, application, wrong, revision=2, now=NOW)
    people.submit(application)
    people.decided(application, "county", REFUSED, opinion="?")
    people.submit(application)
    with people.records.read() as tx:
        names = tx.execute(text("SELECT round, name FROM attachment ORDER BY id")).all()
    assert [tuple(each) for each in names] == [(1, "探头.jpg"), (2, "探头.jpg")]


def test_executing_changes_once_and_is_audited(people: Reviewers) -> None:
    application = people.filed()
    province = people.actor("province")
    for _ in range(2):
        with people.records.write() as tx:
            row = execution.execute(tx, province, KINDS, application, now=Instant(NOW + 5))
            assert (row.state, row.executed_at) == (ApplicationState.EXECUTED, NOW + 5)
    assert equipment_name(people) == "海尔冰箱"
    with people.records.read() as tx:
        assert tx.scalars(select(Execution.effect)).all() == ["rename:A-01"]
        acts = tx.scalars(select(Audit.act).where(Audit.act == "application executed")).all()
    assert len(acts) == 1


def test_only_what_is_filed_is_executed_and_only_with_the_right(people: Reviewers) -> None:
    application = people.submitted()
    with pytest.raises(Conflict, match="in_review"), people.records.write() as tx:
        execution.execute(tx, people.actor("province"), KINDS, application, now=NOW)
    with pytest.raises(PermissionDenied), people.records.write() as tx:
        execution.execute(tx, people.actor("clinic"), KINDS, application, now=NOW)
    assert equipment_name(people) == "美菱冰箱"


def test_if_the_world_has_changed_nothing_is_and_a_retry_goes_on(people: Reviewers) -> None:
    application = people.filed()
    province = people.actor("province")
    with people.records.write() as tx:
        tx.scalars(select(Equipment)).one().name = "容声冰箱"
    with people.records.write() as tx:
        row = execution.execute(tx, province, KINDS, application, now=NOW)
        assert row.state is ApplicationState.BLOCKED
        assert faults_of(row.differences) == [CellFault(1, "", "A-01 is 容声冰箱, no longer 美菱冰箱")]
    assert equipment_name(people) == "容声冰箱"
    with people.records.write() as tx:
        tx.scalars(select(Equipment)).one().name = "美菱冰箱"
    with people.records.write() as tx:
        assert execution.execute(tx, province, KINDS, application, now=NOW).state is ApplicationState.EXECUTED


def test_what_is_blocked_can_be_given_back_for_another_round(people: Reviewers) -> None:
    application = people.filed()
    province = people.actor("province")
    with pytest.raises(Conflict), people.records.write() as tx:
        execution.give_back(tx, province, KINDS, application, reason="?", now=NOW)
    with people.records.write() as tx:
        tx.scalars(select(Equipment)).one().code = "A-02"
        assert execution.execute(tx, province, KINDS, application, now=NOW).state is ApplicationState.BLOCKED
        execution.give_back(tx, province, KINDS, application, reason="编号已改", now=NOW)
    assert people.row(application).state is ApplicationState.RETURNED
    people.drafted(DraftContent({"unit_code": CODE}, [{**ROW, "code": "A-02"}]))


def test_an_execution_is_dated_after_the_filing_and_at_most_a_day_ago(people: Reviewers) -> None:
    application = people.filed()
    for at in (NOW - 1, NOW + 30 * HOUR + 1, NOW + 6 * HOUR - 1):
        now = Instant(NOW + 30 * HOUR)
        with pytest.raises(Invalid), people.records.write() as tx:
            execution.execute(tx, people.actor("province"), KINDS, application, at=Instant(at), now=now)
    with people.records.write() as tx:
        at, now = Instant(NOW + 6 * HOUR), Instant(NOW + 30 * HOUR)
        assert execution.execute(tx, people.actor("province"), KINDS, application, at=at, now=now).executed_at == at
