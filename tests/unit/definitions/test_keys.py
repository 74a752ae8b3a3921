"""The text of an entity key."""

from hypothesis import given
from hypothesis import strategies as st
from millrace.definitions.keys import composite_key, entity_key


def test_keys_are_the_same_text_whatever_type_carried_them() -> None:
    assert [entity_key(value) for value in (7, 7.0, "7", True, 7.5, None)] == ["7", "7", "7", "true", "7.5", None]


def test_other_spellings_stay_other_keys() -> None:
    assert [entity_key(value) for value in ("7.0", " 7", "", False, -0.0)] == ["7.0", " 7", "", "false", "0"]


parts = st.lists(st.text(alphabet="a|\\", max_size=3), min_size=2, max_size=2)


@given(parts, parts)
def test_different_parts_make_different_composite_keys(one, other):
    assert (composite_key(one) == composite_key(other)) is (one == other)


def test_a_composite_key_with_a_null_part_is_null_and_one_part_is_itself():
    assert composite_key(["a", None]) is None
    assert composite_key(["a|b"]) == "a|b"
    assert composite_key(["a", 3]) == "a|3"
