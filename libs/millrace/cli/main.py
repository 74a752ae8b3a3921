"""The `millrace` command: mounts the groups. Nothing heavy is imported here."""

from __future__ import annotations

from typing import Annotated

import typer

from millrace.cli import (
    data,
    deadletters,
    doctor,
    events,
    feature_store,
    features,
    forgetting,
    models,
    profiles,
    projects,
    publish,
    replay,
    report,
    runs,
    shadow,
    stack,
    topic_commands,
    training,
)
from millrace.cli.errors import OneLineGroup

app = typer.Typer(
    cls=OneLineGroup,
    no_args_is_help=True,
    help="Millrace: data events drive features, training, releases and predictions; the monitor closes the loop.",
    epilog="Start with `millrace doctor`, then `millrace up`. `millrace --install-completion` teaches your shell.",
    pretty_exceptions_enable=False,
    # Rich help costs a quarter of a second at each --help and each completion.
    rich_markup_mode=None,
)


def _version(asked: bool) -> None:
    if asked:
        import millrace

        typer.echo(f"millrace {millrace.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Shared by all commands."""


for _commands in (
    stack.app,
    projects.app,
    publish.app,
    data.app,
    replay.app,
    shadow.app,
    models.top,
    report.app,
    events.top,
    doctor.app,
):
    app.add_typer(_commands)
app.add_typer(models.app, name="models")
app.add_typer(events.app, name="events")
features.app.add_typer(feature_store.app)
app.add_typer(features.app, name="features")
profiles.app.add_typer(forgetting.app)
app.add_typer(profiles.app, name="data")
app.add_typer(deadletters.app, name="deadletter")
app.add_typer(topic_commands.app, name="topics")
app.add_typer(training.app, name="training")
app.add_typer(runs.app, name="runs")
