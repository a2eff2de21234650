import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.held_out import spread
from pipeline.report.selection import extremes, panel_rows, table_rows

orders = st.builds(
    lambda count, seed: np.random.default_rng(seed).permutation(count), st.integers(1, 200), st.integers(0)
)


@given(orders, st.integers(1, 8))
def test_extremes_are_the_two_ends_and_the_middle(order, each):
    found = extremes(order, each)
    shown = len(found["worst"])
    assert 1 <= shown <= each
    assert found["worst"].tolist() == order[:shown].tolist()
    assert found["best"].tolist() == order[::-1][:shown].tolist()
    places = np.flatnonzero(np.isin(order, found["median"]))
    assert abs((places[0] + places[-1]) - (len(order) - 1)) <= 1
    if len(order) >= 3:
        assert len(np.unique(np.concatenate(list(found.values())))) == 3 * shown


@given(orders, st.integers(2, 50))
def test_a_spread_has_both_ends_in_order_at_equal_steps(rows, most):
    found = spread(rows, most)
    assert len(found) == min(most, len(rows))
    assert (found[0], found[-1]) == (rows[0], rows[-1])
    steps = np.diff([rows.tolist().index(row) for row in found])
    assert len(rows) == 1 or 0 < steps.min() <= steps.max() <= steps.min() + 1


@given(orders, st.integers(18, 60))
def test_the_panel_has_the_extremes_and_no_more_than_its_limit(order, most):
    found = panel_rows(order, most).tolist()
    assert len(found) == min(most, len(order))
    assert set(np.concatenate(list(extremes(order).values()))) <= set(found)
    assert found == [row for row in order if row in set(found)]


@given(orders, st.integers(1, 40), st.integers(2, 40))
def test_the_table_has_all_of_the_worst_and_some_of_the_rest(order, worst, rest):
    found = table_rows(order, worst, rest).tolist()
    assert len(found) == min(len(order), worst + rest)
    assert found[:worst] == order[:worst].tolist()
    assert found[-1] == order[-1]
    assert len(set(found)) == len(found)
