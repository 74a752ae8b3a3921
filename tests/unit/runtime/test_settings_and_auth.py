"""Settings are typed, frozen and documented; leaving the loopback needs tokens or TLS."""

import pytest
from millrace.runtime.auth import LOCAL, Identity, actor_of, enter, is_loopback, load_authenticator, split_bind
from millrace.runtime.errors import ConfigurationError, Unauthenticated
from millrace.runtime.settings import RoomSettings, knob
from pydantic import ValidationError


class Own(RoomSettings):
    speed: int = knob(3, "toy", "speed", "How fast.", ge=1)


def test_environment_file_and_arguments_in_order(monkeypatch, tmp_path):
    file = tmp_path / "settings"
    file.write_text("MILLRACE_KAFKA_BOOTSTRAP=file:1\nMILLRACE_TOY_SPEED=5\nMILLRACE_REDIS_URL=redis://file\n")
    monkeypatch.setenv("MILLRACE_SETTINGS_FILE", str(file))
    monkeypatch.setenv("MILLRACE_KAFKA_BOOTSTRAP", "env:1")
    made = Own(home=tmp_path)
    assert (made.kafka_bootstrap, made.redis_url, made.speed) == ("env:1", "redis://file", 5)
    monkeypatch.setenv("MILLRACE_TOY_SPEED", "7")
    assert Own().speed == 7 and Own(speed=9).speed == 9
    with pytest.raises(ValidationError):
        Own(speed=0)
    with pytest.raises(ValidationError):
        made.speed = 1


def test_every_setting_says_why():
    assert not [name for name, field in Own.model_fields.items() if not field.description]


@pytest.mark.parametrize("bind", ["0.0.0.0:0", "192.168.1.5:80", "example.org:80", "[::]:80"])
def test_leaving_the_loopback_needs_a_token_file_or_tls(bind, tmp_path):
    assert not is_loopback(bind)
    with pytest.raises(ConfigurationError, match="refusing to bind"):
        load_authenticator(RoomSettings(http_bind=bind))
    tokens = tmp_path / "tokens"
    tokens.write_text("# people\ns3cret ada scientist,operator\n")
    authenticator = load_authenticator(RoomSettings(http_bind=bind, token_file=str(tokens)))
    ada = authenticator.identify("Bearer s3cret")
    assert ada.name == "ada" and ada.may("operator") and not ada.may("annotator")
    for wrong in ("", "Bearer other", "Basic s3cret"):
        with pytest.raises(Unauthenticated):
            authenticator.identify(wrong)


def test_the_loopback_asks_nobody():
    assert load_authenticator(RoomSettings()).identify("") is LOCAL
    assert is_loopback("[::1]:5") and is_loopback("localhost:5")


async def test_a_claimed_name_counts_only_where_nobody_has_to_prove_it():
    assert (actor_of("ada"), actor_of("")) == ("ada", "local")
    enter(Identity("eve", frozenset({"scientist"})))  # of this test's own task
    assert (actor_of("ada"), actor_of("")) == ("eve", "eve")


@pytest.mark.parametrize(("text", "why"), [("", "holds no token"), ("onlytoken", "expected"), ("t n king", "expected")])
def test_a_bad_token_file_is_one_clear_line(tmp_path, text, why):
    (tmp_path / "tokens").write_text(text)
    with pytest.raises(ConfigurationError, match=why):
        load_authenticator(RoomSettings(token_file=str(tmp_path / "tokens")))


def test_binds_are_host_and_port():
    assert split_bind("[::1]:80") == ("::1", 80)
    for wrong in ("80", "host:", ":80", "host:http"):
        with pytest.raises(ConfigurationError):
            split_bind(wrong)
