"""`millrace deadletter list|show|replay`: records that a room could not handle, and their way back."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

from millrace.cli.errors import CliError
from millrace.cli.options import DEFAULT_HOME, Actor, AsJson, Home, Limit
from millrace.cli.places import ROOMS

app = typer.Typer(help="Records a room could not handle: list, show, replay.", no_args_is_help=True)

MAX_READ_RECORDS = 100_000
REPLAYED_BY = "replayed_by"
"""Header of a record that was handed back: who did it."""

Room = Annotated[str, typer.Argument(help="The room that gave up.", show_default=False)]
Offset = Annotated[int, typer.Argument(help="Its offset, from `deadletter list`.", min=0, show_default=False)]


@app.command("list")
def list_letters(
    room: Annotated[str, typer.Argument(help="Room; empty: all.")] = "",
    home: Home = DEFAULT_HOME,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List dead letters, newest last.

    Examples:

      millrace deadletter list ingestion
    """
    from millrace.cli.output import emit_json, show_table, when

    letters = _read(home, [_known(room)] if room else list(ROOMS), limit)
    if as_json:
        emit_json([_as_dict(letter) for letter in letters])
        return
    rows = [
        (e.room, offset, f"{e.topic}[{e.partition}]@{e.offset}", e.attempts, when(e.first_failed_us), e.error, e.reason)
        for offset, e in letters
    ]
    columns = ("room", "offset", "record", "attempts", "first failed", "error", "reason")
    show_table(columns, rows, empty="no dead letters")


@app.command()
def show(room: Room, offset: Offset, home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Show one dead letter whole, with its payload decoded.

    Examples:

      millrace deadletter show labeling 3
    """
    from millrace.cli.output import console, emit_json, table, when
    from millrace.cli.topics import decode

    letter = _one(home, room, offset)
    entry = letter[1]
    event_type = entry.headers.get("ce_type", "")
    content = {**_as_dict(letter), "data": decode(entry.topic, event_type, entry.payload)}
    if as_json:
        emit_json(content)
        return
    data, headers = content.pop("data"), content.pop("headers")
    for name in ("first_failed_us", "last_failed_us"):
        content[name] = when(content[name])
    rows = [(name.removesuffix("_us"), str(value)) for name, value in content.items()]
    console().print(table(("", ""), [*rows, *headers.items()]))
    emit_json(data)


@app.command()
def replay(
    room: Room,
    offset: Annotated[int | None, typer.Argument(help="Its offset; with --all: every one.", min=0)] = None,
    home: Home = DEFAULT_HOME,
    everything: Annotated[bool, typer.Option("--all", help="Replay all of this room's dead letters.")] = False,
    actor: Actor = "",
    as_json: AsJson = False,
) -> None:
    """Hand dead letters back to their room under the same ids; what has had its effect is recognised there.

    Who does it travels in the header replayed_by: the event's own actor stays who caused it at first.

    Examples:

      millrace deadletter replay labeling 3

      millrace deadletter replay labeling --all
    """
    from millrace.cli.output import emit_json

    if (offset is None) == (not everything):
        raise CliError("give one offset, or --all")
    letters = _read(home, [_known(room)], MAX_READ_RECORDS) if everything else [_one(home, room, offset or 0)]
    whole = [letter for letter in letters if not _is_cut(letter)]
    if letters and not whole:
        raise CliError(f"{room} keeps only the beginning of what was too large: there is nothing to hand back")
    asyncio.run(_hand_back(home, room, whole, actor))
    if as_json:
        emit_json({"room": room, "replayed": [number for number, _ in whole]})
    else:
        left_out = f", {len(letters) - len(whole)} too large to be kept whole left out" * (len(whole) < len(letters))
        typer.echo(f"{len(whole)} handed back to {room}{left_out}")


def _is_cut(letter: tuple[int, Any]) -> bool:
    """Whether only the beginning of the record was kept."""
    return bool(letter[1].payload_bytes > len(letter[1].payload))


def _known(room: str) -> str:
    if room not in ROOMS:
        raise CliError(f"no room is called {room} (rooms: {', '.join(ROOMS)})")
    return room


def _read(home: Path, rooms: list[str], limit: int) -> list[tuple[int, Any]]:
    """(offset in the dead-letter topic, DeadLetter), at most `limit` of the newest."""
    from millrace.bus.topics import deadletter_topic
    from millrace.cli.places import kafka_client
    from millrace.cli.topics import read_last
    from millrace.wire.common.v1 import common_pb2

    letters: list[tuple[int, Any]] = []

    def keep(record: Any) -> None:
        letters.append((record.offset, common_pb2.DeadLetter.FromString(record.value or b"")))

    topics = [deadletter_topic(room) for room in rooms]
    asyncio.run(read_last(kafka_client(home), topics, limit, keep, follow=False))
    return letters


def _one(home: Path, room: str, offset: int) -> tuple[int, Any]:
    for letter in _read(home, [_known(room)], MAX_READ_RECORDS):
        if letter[0] == offset:
            return letter
    raise CliError(f"{room} has no dead letter at offset {offset} (`millrace deadletter list {room}`)")


async def _hand_back(home: Path, room: str, letters: list[tuple[int, Any]], actor: str) -> None:
    from aiokafka import AIOKafkaProducer
    from aiokafka.errors import KafkaError

    from millrace.bus.delays import handing_back
    from millrace.bus.topics import retry_topic
    from millrace.cli.places import kafka_client
    from millrace.cli.topics import quiet

    quiet()
    producer = AIOKafkaProducer(**kafka_client(home), acks="all", enable_idempotence=True)
    try:
        await producer.start()
        for _, letter in letters:
            texts = handing_back(letter) | ({REPLAYED_BY: actor} if actor else {})
            headers = [(name, value.encode()) for name, value in texts.items()]
            key = letter.key or None
            await producer.send_and_wait(retry_topic(room), letter.payload, key=key, headers=headers)
    except KafkaError as error:
        raise CliError(f"Kafka did not take the records: {error}") from error
    finally:
        await producer.stop()


def _as_dict(letter: tuple[int, Any]) -> dict[str, Any]:
    offset, entry = letter
    return {
        "deadletter_offset": offset,
        "room": entry.room,
        "topic": entry.topic,
        "partition": entry.partition,
        "offset": entry.offset,
        "error": entry.error,
        "reason": entry.reason,
        "attempts": entry.attempts,
        "first_failed_us": entry.first_failed_us,
        "last_failed_us": entry.last_failed_us,
        "handler_version": entry.handler_version,
        "group": entry.group,
        "key": entry.key.decode(errors="replace"),
        "headers": dict(entry.headers),
    }
