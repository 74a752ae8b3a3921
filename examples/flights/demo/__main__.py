"""`make demo`: months of real flights through seven services, with two faults. Exit 0 only when the loop closed."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from examples.flights.demo import report as reporting
from examples.flights.demo.pictures import day
from examples.flights.demo.platform import CommandFailed, Platform
from examples.flights.demo.story import Story
from examples.flights.demo.witness import Witness

HOME = Path(".millrace/demo")


def months_asked(text: str) -> tuple[int, ...]:
    """`7-9`, `1-12` or `7`: months of 2013. Raises SystemExit with one line for anything else."""
    first, _, last = text.partition("-")
    try:
        months = tuple(range(int(first), int(last or first) + 1))
    except ValueError:
        months = ()
    if not months or months[0] < 1 or months[-1] > 12:
        raise SystemExit(f"DEMO_MONTHS={text!r} is no range of months: write it like 7-9 or 1-12")
    return months


async def tell_story(months: tuple[int, ...], console: Console) -> int:
    """Runs the demo; returns the exit status."""
    started = time.monotonic()
    platform = Platform(HOME)
    if (HOME / "run").exists():
        await platform.command("down")  # an earlier demo that still runs would lose the files that find it
    shutil.rmtree(HOME, ignore_errors=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    try:
        with console.status("starting Kafka, Valkey, ClickHouse and seven services"):
            await platform.command("up", "--detach")
        with Progress(*columns, console=console) as bars:
            task = bars.add_task("reading the data", total=None)
            story = Story(platform, months, bars.console.print, lambda p: bars.update(
                task, completed=p.now_us - story.start_us, total=story.end_us - story.start_us,
                description=f"{day(p.now_us):%d %b %H:%M}  {p.events:,} events"))  # fmt: skip
            story.happened.durations_s["start"] = round(time.monotonic() - started, 2)
            witness = await story.run(lambda bus, hear: Witness(bus, story.project.name, hear))
        with console.status("drawing the report"):
            found = await reporting.gather(story, witness)
            found["durations_s"]["total"] = round(time.monotonic() - started, 2)
            page = reporting.write(found, HOME)
    finally:
        with console.status("stopping everything"):
            await platform.command("down")
    reporting.show(found, page, console)
    for link in found["missing_links"]:
        console.print(f"[bold red]missing link:[/] {link}")
    return 1 if found["missing_links"] else 0


def main() -> None:
    """Entry point."""
    console = Console(highlight=False)
    try:
        sys.exit(asyncio.run(tell_story(months_asked(os.environ.get("DEMO_MONTHS", "7-9")), console)))
    except CommandFailed as error:
        console.print(f"[bold red]failed:[/] {error}")
        sys.exit(1)
    except KeyboardInterrupt:
        console.print("stopped; nothing is left running")
        sys.exit(130)


if __name__ == "__main__":
    main()
