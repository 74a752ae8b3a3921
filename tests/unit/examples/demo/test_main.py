"""The demo as a program: its argument, its clean-up, its signals, its rows on the terminal."""

import asyncio
import io
import os
import signal
from pathlib import Path

import grpc
import pytest
from millrace.bus.errors import BusUnavailable
from millrace.client.errors import NotQuiet

from examples.flights.demo import __main__ as demo
from examples.flights.demo.bars import REFRESH_PER_SECOND, Bars, Step
from examples.flights.demo.platform import CommandFailed, Platform
from examples.flights.demo.trouble import PLAIN, DemoError, Trouble, reason


@pytest.mark.parametrize(("text", "months"), [("7-9", (7, 8, 9)), ("7", (7,)), ("1-12", tuple(range(1, 13)))])
def test_months(text: str, months: tuple[int, ...]) -> None:
    assert demo.months_asked(text) == months


@pytest.mark.parametrize("text", ["", "0-3", "9-7", "11-13", "July", "1-2-3"])
def test_months_that_are_none_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(DemoError, match="is no range of months: write it like 7-9 or 1-12"):
        demo.months_asked(text)


def test_what_an_earlier_demo_left_is_removed(tmp_path: Path) -> None:
    home = tmp_path / "demo"
    demo.clear(home)
    (home / "run").mkdir(parents=True)
    (home / "run" / "lock").touch()
    demo.clear(home)
    assert not home.exists()


def test_what_cannot_be_removed_is_said_in_one_line(tmp_path: Path) -> None:
    home = tmp_path / "demo"
    home.write_text("no folder")
    with pytest.raises(DemoError, match=r"demo of an earlier demo cannot be removed: .*Not a directory") as failed:
        demo.clear(home)
    assert "\n" not in reason(failed.value)


class Slow(Platform):
    """A platform whose commands take until `go`; what they did is in `log`."""

    def __init__(self) -> None:
        super().__init__(Path("nowhere"))
        self.log: list[str] = []
        self.go = asyncio.Event()
        self.begun = asyncio.Event()

    async def start(self, step: Step) -> None:
        self.log.append("up")

    async def command(self, *words: str) -> str:
        self.begun.set()
        await self.go.wait()
        self.log.append(words[0])
        return ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_platform_before_the_demo_ends(number: signal.Signals, bars: Bars) -> None:
    platforms: list[Slow] = []

    async def work() -> None:
        platforms.append(platform := Slow())
        platform.go.set()
        with demo.stopped_by_signals():
            async with demo.running(platform, bars):
                os.kill(os.getpid(), number)
                await asyncio.Event().wait()

    before = signal.getsignal(number)
    with pytest.raises(demo.Stopped, match=number.name) as stopped:
        asyncio.run(work())
    assert stopped.value.number == number
    assert platforms[0].log == ["up", "down"]
    assert signal.getsignal(number) in (before, signal.SIG_DFL)


def test_further_signals_do_not_cut_the_stop_off(bars: Bars) -> None:
    platforms: list[Slow] = []

    async def again(platform: Slow) -> None:
        await platform.begun.wait()
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
            for _ in range(5):  # the loop hears of it in its next rounds
                await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(0.05, platform.go.set)

    async def work() -> None:
        platforms.append(platform := Slow())
        second = asyncio.create_task(again(platform))
        with demo.stopped_by_signals():
            async with demo.running(platform, bars):
                os.kill(os.getpid(), signal.SIGTERM)
                await asyncio.Event().wait()
        await second

    with pytest.raises(demo.Stopped):
        asyncio.run(work())
    assert platforms[0].log == ["up", "down"]


def test_a_signal_while_stopping_waits_for_the_stop(bars: Bars) -> None:
    platforms: list[Slow] = []

    async def once(platform: Slow) -> None:
        await platform.begun.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        asyncio.get_running_loop().call_later(0.05, platform.go.set)

    async def work() -> None:
        platforms.append(platform := Slow())
        first = asyncio.create_task(once(platform))
        with demo.stopped_by_signals():
            async with demo.running(platform, bars):
                pass
        await first

    with pytest.raises(demo.Stopped):
        asyncio.run(work())
    assert platforms[0].log == ["up", "down"]


async def test_a_stop_that_fails_says_so_even_when_it_was_asked_for_by_a_signal() -> None:
    async def failing() -> None:
        await asyncio.sleep(0)
        raise CommandFailed("millrace down: still runs")

    stopping = asyncio.create_task(demo.to_its_end(failing()))
    await asyncio.sleep(0)
    stopping.cancel()
    with pytest.raises(CommandFailed, match="still runs"):
        await stopping


async def test_a_cancellation_that_no_signal_asked_for_stays_one() -> None:
    async def work() -> None:
        with demo.stopped_by_signals():
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_command_says_what_it_said_when_it_fails(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match=r"millrace models list: .*") as failed:
        await Platform(tmp_path).command("models", "list")
    assert "Traceback" not in str(failed.value)


async def test_a_start_that_is_cut_off_has_ended_when_that_is_known(tmp_path: Path, bars: Bars) -> None:
    class Starting(Platform):
        ended = False

        async def command(self, *words: str) -> str:
            log = self.home / "logs" / "up.log"
            log.parent.mkdir()
            log.write_text("valkey: ready\nkafka: ready\nclickhouse: waits\n")
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                self.ended = True
            return ""

    platform = Starting(tmp_path)
    told: list[tuple[float, float | None, str]] = []

    class Heard(Step):
        def at(self, done: float, total: float | None = None, detail: str = "") -> None:
            told.append((done, total, detail))
            starting.cancel()

    with bars.phase("starting") as step:
        starting = asyncio.create_task(platform.start(Heard(step.what, step._progress, step._task)))
        with pytest.raises(asyncio.CancelledError):
            await starting
    assert platform.ended
    assert told == [(2, 10, "clickhouse: waits")]


async def test_a_start_that_fails_says_why(tmp_path: Path, bars: Bars) -> None:
    class Refusing(Platform):
        async def command(self, *words: str) -> str:
            raise CommandFailed(f"millrace {' '.join(words)}: no Java")

    with bars.phase("starting") as step, pytest.raises(CommandFailed, match="millrace up --detach: no Java"):
        await Refusing(tmp_path).start(step)


def test_rows_say_what_is_done_and_where_it_ended(bars: Bars, screen: io.StringIO) -> None:
    with bars:
        with bars.phase("reading [all] topics") as step:
            step.at(1, 4, "1 of 4 [records]")
        with pytest.raises(KeyError), bars.phase("replaying"):
            raise KeyError
        bars.tell("[bold]a line[/]")
    shown = screen.getvalue()
    assert "reading [all] topics  1 of 4 [records]" in shown
    assert "100%" in shown
    assert "replaying: ended early" in shown
    assert "a line" in shown
    assert bars._progress.live.refresh_per_second == REFRESH_PER_SECOND == 4


def rpc_error(code: grpc.StatusCode, text: str) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details=text)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (rpc_error(grpc.StatusCode.NOT_FOUND, "no version 1"), "NOT_FOUND: no version 1"),
        (NotQuiet("not quiet after 60 s: trainer: 1 jobs"), "not quiet after 60 s: trainer: 1 jobs"),
        (BusUnavailable("the broker\nis gone"), "the broker is gone"),
        (FileNotFoundError(2, "No such file", "kafka.json"), "[Errno 2] No such file: 'kafka.json'"),
        (TimeoutError(), "TimeoutError"),
        (ValueError("off by one"), "ValueError: off by one"),
    ],
)
def test_the_reason_is_one_line(error: Exception, line: str) -> None:
    assert reason(error) == line
    assert isinstance(error, PLAIN) is not isinstance(error, ValueError)


def test_a_trouble_keeps_where_it_came_from() -> None:
    try:
        raise NotQuiet("records keep coming")
    except NotQuiet as error:
        trouble = Trouble.of("replay", error)
    assert (trouble.during, trouble.reason) == ("replay", "records keep coming")
    assert "test_a_trouble_keeps_where_it_came_from" in trouble.traceback


def test_main_ends_with_one_line_and_status_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setenv("DEMO_MONTHS", "[13]")
    with pytest.raises(SystemExit) as ended:
        demo.main()
    assert ended.value.code == 1
    assert capsys.readouterr().out.startswith("failed: DEMO_MONTHS='[13]' is no range of months")
    assert "Traceback" not in capsys.readouterr().err
