"""Chains of causes over a small index."""

from services.monitor.domain.causes import EVIDENCE, SNAPSHOT, Link, chain


def link(event_id, topic, cause="", **more):
    return Link(event_id, f"type.{event_id}", topic, "millrace/x", "m", 5, f"summary {event_id}", cause,
                more.pop("actor", ""), project="p", model="m", **more)  # fmt: skip


class Events:
    def __init__(self, *links):
        self.links = links

    async def by_id(self, event_id):
        return next((x for x in self.links if x.event_id == event_id), None)

    async def by_run(self, run_id):
        return next((x for x in self.links if x.topic == "training.runs" and x.run_id == run_id), None)

    async def by_version(self, project, model, version):
        return next((x for x in self.links if x.topic == "models.events" and x.version == version), None)

    async def why(self, event_id):
        return await chain(await self.by_id(event_id), self.by_id, self.by_run, self.by_version)


RUN = link("run", "training.runs", "asked", run_id="r1", snapshot_digest="sha256:s")
RELEASED = link("released", "models.events", "run", version=1, run_id="r1", kind="released")


async def test_a_retraining_goes_back_to_the_snapshot():
    events = Events(
        RUN, RELEASED, link("asked", "training.requests", actor="ada"),
        link("alert", "monitor.alerts", "released", evidence="version = 1"),
        link("request", "training.requests", "alert"),
    )  # fmt: skip
    found = await events.why("request")
    assert [x.event_id for x in found.links] == ["request", "alert", "alert#evidence", "released", "run", "sha256:s"]
    assert found.links[2].event_type == EVIDENCE and found.links[2].summary == "version = 1"
    assert found.links[-1].event_type == SNAPSHOT
    assert found.complete


async def test_a_run_asked_about_itself_says_who_asked():
    events = Events(RUN, link("asked", "training.requests", actor="ada"))
    found = await events.why("run")
    assert [x.event_id for x in found.links] == ["run", "asked", "sha256:s"]
    assert found.complete


async def test_a_version_whose_cause_is_not_known_goes_on_at_its_run():
    lone = link("promoted", "models.events", "lost", version=1, run_id="r1")
    found = await Events(RUN, lone).why("promoted")
    assert [x.event_id for x in found.links] == ["promoted", "run", "sha256:s"]
    assert found.complete


async def test_an_unknown_cause_is_said():
    found = await Events(link("alert", "monitor.alerts", "nowhere")).why("alert")
    assert not found.complete


async def test_the_rollback_of_a_forced_version_ends_at_the_hand_then_at_what_serves_again():
    events = Events(
        RUN, RELEASED,
        link("forced", "models.events", version=2, kind="forced", actor="eve"),
        link("alert", "monitor.alerts", "forced", evidence="version IN (2, 1)"),
        link("command", "models.commands", "alert"),
        link("back", "models.events", "command", version=2, other_version=1, kind="rolled_back"),
    )  # fmt: skip
    found = await events.why("back")
    assert [x.event_id for x in found.links] == [
        "back", "command", "alert", "alert#evidence", "forced", "released", "run", "sha256:s",
    ]  # fmt: skip
    assert "serves again" in found.links[5].summary
    assert found.complete


async def test_a_loop_ends():
    found = await Events(link("a", "x", "b"), link("b", "x", "a")).why("a")
    assert [x.event_id for x in found.links] == ["a", "b"]
