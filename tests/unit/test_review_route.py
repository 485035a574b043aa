"""Route of applications: every reviewer above in order, missing levels skipped, none that is there left out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.ids import UnitId
from core.units.unit_levels import Level, UnitKind, below_county
from core.workflow.route import Ancestor, NoReviewer, Route, next_cdc_up, next_reviewer, up_to

CDC, POV, HOSPITAL = UnitKind.CDC, UnitKind.POV, UnitKind.INSTITUTION
TO_PROVINCE = up_to(Level.PROVINCE)


def chain(*units: tuple[UnitKind, Level]) -> list[Ancestor]:
    """Return a chain from the filing unit to the root; ids count from 1."""
    return [Ancestor(UnitId(number), kind, level) for number, (kind, level) in enumerate(units, start=1)]


def passage(route: Route, units: list[Ancestor]) -> list[UnitId]:
    """Return the reviewers of a whole round, each passing it up."""
    decided: list[Level] = []
    reviewers: list[UnitId] = []
    while (reviewer := next_reviewer(route, units, decided)) is not None:
        reviewers.append(reviewer.unit)
        decided.append(reviewer.level)
    return reviewers


CLINIC = chain((POV, Level.TOWNSHIP), (CDC, Level.COUNTY), (CDC, Level.CITY), (CDC, Level.PROVINCE))
NO_CITY = chain((POV, Level.TOWNSHIP), (CDC, Level.COUNTY), (CDC, Level.PROVINCE))
NO_COUNTY = chain((POV, Level.COUNTY), (CDC, Level.CITY), (CDC, Level.PROVINCE))
UNDER_A_HOSPITAL = chain((POV, Level.VILLAGE), (HOSPITAL, Level.TOWNSHIP), (CDC, Level.COUNTY), (CDC, Level.PROVINCE))
UNDER_A_TOWNSHIP_CDC = chain((POV, Level.VILLAGE), (CDC, Level.TOWNSHIP), (CDC, Level.COUNTY), (CDC, Level.PROVINCE))
OWN_FORM = chain((CDC, Level.PROVINCE))


@pytest.mark.parametrize(
    ("units", "reviewers"),
    [
        pytest.param(CLINIC, [2, 3, 4], id="every level"),
        pytest.param(NO_CITY, [2, 3], id="a county under a province"),
        pytest.param(NO_COUNTY, [2, 3], id="no county"),
        pytest.param(UNDER_A_HOSPITAL, [3, 4], id="a hospital reviews nothing"),
        pytest.param(UNDER_A_TOWNSHIP_CDC, [3, 4], id="nor does what is below the county"),
        pytest.param(OWN_FORM, [1], id="the province's own form"),
    ],
)
def test_a_form_passes_every_cdc_above_up_to_the_province(units: list[Ancestor], reviewers: list[int]) -> None:
    assert passage(TO_PROVINCE, units) == reviewers


def test_the_nearest_cdc_above_decides_alone() -> None:
    assert passage(next_cdc_up(), CLINIC) == [2]
    assert passage(next_cdc_up(), UNDER_A_HOSPITAL) == [3]
    assert passage(next_cdc_up(), OWN_FORM) == [1]


def test_it_goes_no_higher_than_its_last_level() -> None:
    assert passage(up_to(Level.CITY), CLINIC) == [2, 3]


@pytest.mark.parametrize(
    ("units", "decided"),
    [
        pytest.param(chain((POV, Level.TOWNSHIP)), (), id="nothing above"),
        pytest.param(chain((POV, Level.TOWNSHIP), (CDC, Level.COUNTY)), (Level.COUNTY,), id="no province"),
        pytest.param(chain((POV, Level.PROVINCE)), (), id="a company at the province's level"),
        pytest.param(chain((CDC, Level.COUNTY)), (), id="a county with nothing above confirms nothing itself"),
    ],
)
def test_without_the_province_nothing_can_be_filed(units: list[Ancestor], decided: tuple[Level, ...]) -> None:
    with pytest.raises(NoReviewer):
        next_reviewer(TO_PROVINCE, units, decided)


def test_after_a_move_it_goes_on_above_the_levels_that_have_decided() -> None:
    elsewhere = chain((POV, Level.TOWNSHIP), (CDC, Level.COUNTY), (CDC, Level.PROVINCE))
    assert next_reviewer(TO_PROVINCE, elsewhere, [Level.COUNTY, Level.CITY]) == elsewhere[2]
    assert next_reviewer(TO_PROVINCE, elsewhere, [Level.COUNTY]) == elsewhere[2]
    assert next_reviewer(TO_PROVINCE, elsewhere, [Level.PROVINCE]) is None


@given(st.lists(st.tuples(st.sampled_from(UnitKind), st.sampled_from(Level)), min_size=1, max_size=8))
def test_any_chain_has_each_reviewer_once_and_in_order(units: list[tuple[UnitKind, Level]]) -> None:
    ancestors = chain(*units)
    order = list(Level)
    try:
        reviewers = passage(TO_PROVINCE, ancestors)
    except NoReviewer:
        above = {level for kind, level in units[1:] if kind is CDC}
        assert Level.PROVINCE not in above
        assert units[0] != (CDC, Level.PROVINCE)
        return
    levels = [ancestors[reviewer - 1].level for reviewer in reviewers]
    assert levels == sorted(set(levels), key=order.index, reverse=True)
    assert levels[-1] is Level.PROVINCE
    assert all(ancestors[each - 1].kind is CDC and not below_county(ancestors[each - 1].level) for each in reviewers)
