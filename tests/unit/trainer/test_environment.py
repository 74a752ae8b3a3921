"""What a run's numbers depend on is named, and a change of it changes the name."""

import re
import sys

import millrace

from services.trainer.adapters import environment as room


def test_another_file_or_another_text_is_another_code_version(tmp_path, monkeypatch):
    package = tmp_path / "toycode"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "a.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(room, "SOURCES", ("toycode",))

    def version() -> str:
        room.code_version.cache_clear()
        return room.code_version()

    first = version()
    assert re.fullmatch(re.escape(millrace.__version__) + r"\+[0-9a-f]{12}", first)
    assert version() == first
    (package / "a.py").write_text("x = 2\n")
    second = version()
    (package / "a.py").rename(package / "b.py")
    assert len({first, second, version()}) == 3
    room.code_version.cache_clear()


def test_the_environment_is_named_by_all_that_is_in_it(monkeypatch):
    here = room.environment(2)
    assert here == room.environment(2)
    assert here["python"] == ".".join(map(str, sys.version_info[:3]))
    assert all(here["packages"].values())
    assert room.environment(1)["digest"] != here["digest"]
    monkeypatch.setattr(room, "PACKAGES", ("numpy", "no-such-package"))
    assert room.environment(2)["packages"]["no-such-package"] == ""
    assert room.environment(2)["digest"] != here["digest"]
