"""The contract check behind ingestion's doors, and jsonschema on the same rows."""

from __future__ import annotations

import random
from typing import Any

from jsonschema import Draft202012Validator
from millrace.definitions.model import Field, FieldType, Source

from bench.measuring import Job, Way
from services.ingestion.domain.contracts import Contract, Row

ROWS = 4_000
BROKEN_SHARE = 0.02
T0 = 1_372_636_800_000_000
KINDS = ("hot", "cold", "mild")
SOURCE = Source(
    "readings",
    "plant.reading.taken",
    "sensor",
    "at",
    (
        Field("sensor", FieldType.STRING, required=True, regex="[a-z][0-9]{1,4}"),
        Field("at", FieldType.TIMESTAMP, required=True),
        Field("degrees", FieldType.NUMBER, required=True, range=(-50.0, 150.0)),
        Field("pressure", FieldType.NUMBER, range=(0.0, 2000.0)),
        Field("count", FieldType.INTEGER),
        Field("kind", FieldType.STRING, set=KINDS),
        Field("is_on", FieldType.BOOLEAN),
    ),
)
# What JSON Schema can say of the same contract. Normalising, the key and the clock's allowance it cannot.
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["sensor", "at", "degrees"],
    "properties": {
        "sensor": {"type": "string", "pattern": "^[a-z][0-9]{1,4}$"},
        "at": {"type": "integer", "exclusiveMinimum": 0},
        "degrees": {"type": "number", "minimum": -50, "maximum": 150},
        "pressure": {"type": "number", "minimum": 0, "maximum": 2000},
        "count": {"type": "integer"},
        "kind": {"type": "string", "enum": list(KINDS)},
        "is_on": {"type": "boolean"},
    },
}


def contracts_job() -> Job:
    """Judges decoded events one by one. Both ways must accept the same ones."""
    rows = _rows(seed=5)
    contract, validator = Contract(SOURCE, b"bench"), Draft202012Validator(SCHEMA)

    def ours() -> list[bool]:
        return [isinstance(contract.check(row, T0 + ROWS), Row) for row in rows]

    def peer() -> list[bool]:
        return [validator.is_valid(row) for row in rows]

    accepted = ours()
    if accepted != peer() or all(accepted) or not any(accepted):
        raise AssertionError("the contract and the schema disagree on the rows")
    return Job("contract check", ROWS, "events", Way("Contract.check", ours), Way("jsonschema is_valid", peer))


def _rows(seed: int) -> list[dict[str, Any]]:
    """Plain readings; a small share breaks one rule."""
    draw = random.Random(seed)
    rows = []
    for number in range(ROWS):
        row: dict[str, Any] = {
            "sensor": f"s{draw.randrange(1000)}",
            "at": T0 + number,
            "degrees": draw.uniform(-40, 140),
            "pressure": draw.uniform(900, 1100),
            "count": draw.randrange(100),
            "kind": draw.choice(KINDS),
            "is_on": draw.random() < 0.5,
        }
        if draw.random() < BROKEN_SHARE:
            row |= draw.choice([{"degrees": 151.0}, {"kind": "warm"}, {"sensor": "S1"}, {"count": 1.5}, {"is_on": 1}])
        rows.append(row)
    return rows
