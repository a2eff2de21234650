import doctest

from hypothesis import given
from hypothesis import strategies as st

from pipeline import members
from pipeline.members import member_name, split_member, view_names

SCALES = st.lists(st.sampled_from([0.5, 0.875, 1.0, 1.125, 2.0]), min_size=1, unique=True)


def test_the_examples_hold():
    assert doctest.testmod(members).failed == 0


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]*", fullmatch=True), SCALES, st.booleans())
def test_a_name_tells_model_and_view(model, scales, flip):
    views = view_names(scales, flip)
    assert len(set(views)) == len(scales) * (1 + flip)
    assert [split_member(member_name(model, view)) for view in views] == [(model, view) for view in views]
