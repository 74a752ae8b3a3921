"""The text of an entity key."""

from hypothesis import given
from hypothesis import strategies as st
from millrace.definitions.keys import composite_key, entity_key, key_number


def test_keys_are_the_same_text_whatever_type_carried_them() -> None:
    assert [entity_key(value) for value in (7, 7.0, "7", True, 7.5, None)] == ["7", "7", "7", "true", "7.5", None]


def test_other_spellings_stay_other_keys() -> None:
    assert [entity_key(value) for value in ("7.0", " 7", "", False, -0.0)] == ["7.0", " 7", "", "false", "0"]


def test_a_number_is_known_by_its_key() -> None:
    assert [key_number(key) for key in ("7", "-7", "0", "999999999999999")] == [7.0, -7.0, 0.0, 999999999999999.0]
    assert [key_number(key) for key in ("7.5", "07", "+7", "", "-", "٧", "7a", "-0")] == [None] * 8
    assert [key_number(key) for key in ("9007199254740993", "9" * 400, "9" * 5_000)] == [None] * 3


parts = st.lists(st.text(alphabet="a|\\", max_size=3), min_size=2, max_size=2)


@given(parts, parts)
def test_different_parts_make_different_composite_keys(one, other):
    assert (composite_key(one) == composite_key(other)) is (one == other)


def test_a_composite_key_with_a_null_part_is_null_and_one_part_is_itself():
    assert composite_key(["a", None]) is None
    assert composite_key(["a|b"]) == "a|b"
    assert composite_key(["a", 3]) == "a|3"
