"""The image recipe of the seven rooms and what runs inside it."""
