"""The text of an entity key."""

from millrace.definitions.keys import entity_key


def test_keys_are_the_same_text_whatever_type_carried_them() -> None:
    assert [entity_key(value) for value in (7, 7.0, "7", True, 7.5, None)] == ["7", "7", "7", "true", "7.5", None]


def test_other_spellings_stay_other_keys() -> None:
    assert [entity_key(value) for value in ("7.0", " 7", "", False, -0.0)] == ["7.0", " 7", "", "false", "0"]
