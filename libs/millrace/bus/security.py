"""SASL and TLS of every Kafka client, from one flat mapping of texts (`MILLRACE_KAFKA_SECURITY`, JSON).

Names are aiokafka's own, where its value is a text. TLS it wants as a context, which no setting can hold: that is made
here of files.

    security_protocol            PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL
    sasl_mechanism               PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, GSSAPI
    sasl_plain_username          also for SCRAM
    sasl_plain_password          also for SCRAM
    sasl_plain_password_file     the password is the file's first line: a mounted secret
    sasl_kerberos_service_name, sasl_kerberos_domain_name
    ssl_cafile                   authorities (PEM) of the brokers; without it those of the system
    ssl_certfile, ssl_keyfile    our own certificate and key (PEM), where brokers ask for one
    ssl_password                 of the key
    ssl_check_hostname           `false` where the brokers' certificates name other hosts
"""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from millrace.runtime.errors import ConfigurationError

VARIABLE = "MILLRACE_KAFKA_SECURITY"
PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_PASSED = frozenset(
    (
        "security_protocol",
        "sasl_mechanism",
        "sasl_plain_username",
        "sasl_plain_password",
        "sasl_kerberos_service_name",
        "sasl_kerberos_domain_name",
    )
)
_MADE = frozenset(
    ("sasl_plain_password_file", "ssl_cafile", "ssl_certfile", "ssl_keyfile", "ssl_password", "ssl_check_hostname")
)


def client_security(settings: Mapping[str, str] | None) -> dict[str, Any]:
    """Arguments for an aiokafka client. Raises ConfigurationError, which names the setting."""
    given = dict(settings or {})
    unknown = sorted(given.keys() - _PASSED - _MADE)
    if unknown:
        raise ConfigurationError(
            f"{VARIABLE}: no setting is called {unknown[0]} (there are: {', '.join(sorted(_PASSED | _MADE))})"
        )
    protocol = given.get("security_protocol", "PLAINTEXT")
    if protocol not in PROTOCOLS:
        raise ConfigurationError(f"{VARIABLE}: security_protocol is {protocol!r}, not one of {', '.join(PROTOCOLS)}")
    arguments: dict[str, Any] = {name: value for name, value in given.items() if name in _PASSED}
    if file := given.get("sasl_plain_password_file"):
        lines = _text(file, "sasl_plain_password_file").splitlines()
        arguments["sasl_plain_password"] = lines[0] if lines else ""
    if protocol.endswith("SSL"):
        arguments["ssl_context"] = _context(given)
    elif any(name.startswith("ssl_") for name in given):
        raise ConfigurationError(f"{VARIABLE}: ssl_ settings without security_protocol SSL or SASL_SSL do nothing")
    return arguments


def security_of_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What $MILLRACE_KAFKA_SECURITY says. Raises ConfigurationError where that is no JSON object of texts."""
    text = environment.get(VARIABLE, "") or "{}"
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ConfigurationError(f"{VARIABLE} is not JSON: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ConfigurationError(f'{VARIABLE} must be a JSON object of texts, such as {{"security_protocol": "SSL"}}')
    return found


def _context(given: Mapping[str, str]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=given.get("ssl_cafile") or None)
        if given.get("ssl_certfile"):
            context.load_cert_chain(
                given["ssl_certfile"], given.get("ssl_keyfile") or None, given.get("ssl_password") or None
            )
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(given[name] for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile") if given.get(name))
        raise ConfigurationError(f"{VARIABLE}: cannot read {files}: {error}") from error
    # Only the name is left out of the comparison: a certificate that no authority signed is still refused.
    context.check_hostname = given.get("ssl_check_hostname", "true").lower() != "false"
    return context


def _text(file: str, setting: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{VARIABLE}: {setting}: {error}") from error
