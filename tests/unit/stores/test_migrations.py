"""Migration scripts, cut into statements."""

from pathlib import Path

from millrace.stores.migrations import read_migrations, statements


def test_comments_go_and_semicolons_inside_a_line_stay() -> None:
    script = "-- first; comment\nCREATE TABLE a (x TEXT); -- why; so\n\nINSERT INTO a VALUES ('p;q');\nSELECT 1"
    assert statements(script) == ["CREATE TABLE a (x TEXT)", "INSERT INTO a VALUES ('p;q')", "SELECT 1"]


async def test_files_come_in_order_and_others_are_left_out(tmp_path: Path) -> None:
    for name in ("0002_b.sql", "0001_a.sql", "notes.sql", "0003.txt"):
        (tmp_path / name).write_text(f"SELECT '{name}';")
    assert await read_migrations(tmp_path) == [
        ("0001_a.sql", ["SELECT '0001_a.sql'"]),
        ("0002_b.sql", ["SELECT '0002_b.sql'"]),
    ]
    assert await read_migrations(None) == []
