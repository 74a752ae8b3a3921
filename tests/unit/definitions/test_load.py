"""Project files: what is accepted, and every error at once with its place and its fix."""

from __future__ import annotations

from pathlib import Path

import pytest
from millrace.definitions import DefinitionErrors, load_text
from millrace.definitions.canonical import from_canonical_json, to_canonical_json
from millrace.definitions.gate import Behaviour, Disturbance, FairnessRule, Robustness, SliceRule
from millrace.definitions.model import Clock, FieldType, Pii, hours_kept

ROOT = Path(__file__).parents[3]
PARCELS = (Path(__file__).parent / "parcels.yaml").read_text()
EXAMPLES = sorted((ROOT / "examples").glob("*/project.yaml"))

SMALL = """\
project: small
sources:
  asks:
    event_type: small.asked
    key: id
    event_time: at
    fields:
      id: {type: string}
      at: {type: timestamp}
      place: {type: string}
      secret: {type: string, pii: drop}
  facts:
    event_type: small.happened
    key: id
    event_time: at
    fields:
      id: {type: string}
      at: {type: timestamp}
      place: {type: string}
      value: {type: number}
      flag: {type: boolean}
predict: {source: asks, entity: id, moment: at}
features:
  plan@1: {source: asks, entity: id, latest: [place], derive: {hour: hour(at)}}
  spot@1:
    source: facts
    entity: place
    hop: 10m
    windows: [1h, 3h]
    aggregates: {mean: mean(value), count: count(), kinds: distinct(place)}
label: {source: facts, key: id, value: value > 3, horizon: 1h}
model:
  name: small-model
  task: binary
  template: {kind: linear}
  inputs: [plan.place, plan.hour, {view: spot, through: plan.place}]
gate: {metric: auc}
"""


def errors_of(text: str) -> list[str]:
    with pytest.raises(DefinitionErrors) as caught:
        load_text(text, "p.yaml")
    return [str(error) for error in caught.value.errors]


def line_of(text: str, part: str) -> int:
    return 1 + text[: text.index(part)].count("\n")


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.parent.name for path in EXAMPLES])
def test_the_examples_are_accepted(path):
    assert load_text(path.read_text()).name == path.parent.name


def test_a_large_file_means_what_it_says():
    project = load_text(PARCELS)
    assert project.clock is Clock.REPLAY
    assert project.source("weather").lateness_us == 2 * 3_600_000_000
    assert project.view("vehicle_deliveries").columns == ("delay_mean_6h", "delay_last_6h")
    inputs = {i.name: i for i in project.model.inputs}
    assert len(inputs) == 20
    assert inputs["plan.origin"].type is FieldType.STRING and not inputs["plan.origin"].through
    assert inputs["plan.weekday"].type is FieldType.NUMBER
    assert inputs["origin_weather.pressure"].through == "plan.origin"
    assert inputs["vehicle_deliveries.delay_mean_6h"].through == "plan.vehicle"
    assert project.gate.floors == (("auc", 0.66),) and project.gate.max_size_mb == 20.0
    assert project.rollout.steps[0].weight == 0.2 and project.rollout.steps[0].min_predictions == 200
    assert project.monitors.drift is not None and project.monitors.drift.action == "retrain"


def test_small_files_get_defaults():
    project = load_text(SMALL)
    assert (project.clock, project.rollout.strategy, project.training.budget_per_day) == (Clock.WALL, "direct", 4)
    assert project.source("asks").field("id").required and project.source("asks").field("at").required
    assert project.source("asks").field("secret").pii is Pii.DROP


def test_a_view_joined_twice_gets_a_prefix():
    twice = SMALL.replace(
        "{view: spot, through: plan.place}",
        "{view: spot, through: plan.place}, {view: spot, through: plan.place, as: again, columns: [mean_1h]}",
    )
    assert load_text(twice).model.inputs[-1].name == "again.mean_1h"
    (error,) = errors_of(twice.replace(", as: again", ""))
    assert "spot.mean_1h is there already" in error and "`as`" in error


def test_an_argument_follows_the_last_comma_and_composite_entities_join_field_by_field():
    text = SMALL.replace("mean: mean(value)", "high: 'quantile(max(value, 1), 0.95)', recent: 'last_k(value, 3)'")
    text = text.replace("entity: place", "entity: [place, id]").replace("latest: [place]", "latest: [place, id]")
    text = text.replace("through: plan.place}", "through: [plan.place, plan.id]}")
    project = load_text(text)
    high, recent, *_ = project.view("spot").aggregates
    assert (high.expression, high.argument, recent.argument) == ("max(value, 1)", 0.95, 3.0)
    assert project.view("spot").columns[:4] == ("high_1h", "high_3h", "recent_1_1h", "recent_1_3h")
    assert project.view("spot").entity_fields == ("place", "id")
    assert project.model.inputs[-1].carriers == ("plan.place", "plan.id")
    assert from_canonical_json(to_canonical_json(project)) == project


def test_all_errors_come_at_once_in_the_order_of_their_lines():
    broken = (
        SMALL.replace("project: small", "project: Small.x")
        .replace("entity: place", "entity: plaze")
        .replace("latest: [place]", "latest: [place, nothing]")
        .replace("task: binary", "task: binari")
    )
    lines = [int(error.split(":")[1]) for error in errors_of(broken)]
    assert lines == sorted(lines)
    assert {1, line_of(broken, "nothing"), line_of(broken, "plaze"), line_of(broken, "binari")} <= set(lines)


CASES = [
    ("task: binary", "task: binarx", "model.task: binarx is not one of binary, regression (did you mean binary?)"),
    ("hop: 10m", "hop: 7m", "1h is not a multiple of the hop 7m"),
    ("hop: 10m", "hop: 600", "write a duration, such as 90s, 10m, 3h or 7d"),
    ("hop: 10m", "hopp: 10m", "hopp is not a word of this section (did you mean hop?)"),
    ("windows: [1h, 3h]", "windows: [1h, 1h]", "1h is written twice"),
    ("windows: [1h, 3h]", "windows: [90d]", "more than 5,000 hops"),
    ("mean(value)", "men(value)", "there is no aggregate men() (did you mean mean?)"),
    ("mean(value)", "mean(place)", "mean() takes a number, not a string"),
    ("mean(value)", "mean(valu)", "there is no field valu (did you mean value?)"),
    ("mean(value)", "mean()", "mean() needs an expression"),
    ("mean(value)", "quantile(value)", "quantile() needs a number after its expression"),
    ("mean(value)", "'quantile(value, 1.5)'", "a quantile lies between 0 and 1, not at 1.5"),
    ("mean(value)", "'quantile(place, 0.5)'", "quantile() takes a number, not a string"),
    ("mean(value)", "'last_k(value, 0.5)'", "a whole number from 1 to 16, not 0.5"),
    ("mean(value)", "'last_k(value, 99)'", "a whole number from 1 to 16, not 99"),
    ("mean: mean(value)", "mean: 'last_k(value, 2)', mean_2: sum(value)", "two aggregates make a column mean_2"),
    ("entity: place", "entity: [place, nowhere]", "there is no field nowhere"),
    ("entity: place", "entity: [place, id]", "through needs 2 columns, not 1"),
    ("through: plan.place}", "through: [plan.place, plan.hour]}", "through needs 1 columns, not 2"),
    ("mean(value)", "mean(value +)", "cannot be read"),
    ("source: facts\n", "source: fakts\n", "there is no source fakts (did you mean facts?)"),
    ("plan@1:", "plan:", "name@version, such as plan@1"),
    ("latest: [place]", "latest: [secret]", "there is no field secret"),
    ("latest: [place]", "latest: [place], derive: {place: hour(at)}", "derive"),
    ("derive: {hour: hour(at)}", "derive: {hour: hour(place)}", "hour() takes a timestamp, not a string"),
    ("plan.hour,", "plan.our,", "plan has no column our (did you mean hour?)"),
    ("plan.hour,", "plan,", "plan is not view.column (write {view: plan} for all its columns)"),
    ("plan.hour,", "spot.mean_1h,", "spot is about place, not about the predict entity id"),
    ("view: spot,", "view: spott,", "there is no view spott (did you mean spot?)"),
    ("view: spot,", "view: spot@1,", "write its name without the version"),
    ("through: plan.place", "through: spot.mean_1h", "through must start at the predict entity id"),
    ("through: plan.place", "through: plan.nothing", "plan has no column nothing"),
    ("through: plan.place", "through: plan.hour", "plan.hour is a integer, but spot's entity place is a string"),
    ("moment: at", "moment: id", "must be a timestamp, not a string"),
    ("moment: at", "moment: nothing", "there is no field nothing"),
    ("value: value > 3", "value: place", "must be a number, or true or false, not a string"),
    ("key: id, value", "key: value, value", "an entity must be string or integer, not number"),
    ("horizon: 1h", "horizon: 0s", "must be above zero"),
    ("horizon: 1h", "horizon: 1h, missing: default", "needs the default that is assumed"),
    ("horizon: 1h", "horizon: 1h, missing: default, default: 3", "must be 0 or 1 for a binary model"),
    ("task: binary", "task: regression", "is true or false, but the model is a regression"),
    ("metric: auc", "metric: mae", "mae does not fit a binary model (use auc or log_loss)"),
    ("metric: auc", "metric: auc, floors: {auc: 1.5}", "an auc is at most 1"),
    ("metric: auc", "metric: auc, floors: {rmse: 1}", "rmse does not fit a binary model"),
    ("metric: auc", "metric: auc, slices: [plan.plaze]", "there is no input plan.plaze (did you mean plan.place?)"),
    ("gate:", "rollout: {strategy: canary}\ngate:", "a canary needs steps"),
    ("gate:", "rollout: {steps: [{weight: 1}]}\ngate:", "rollout.steps[0].weight: must be less than 1"),
    ("gate:", "rollout: {steps: [{weight: 0.5}, {weight: 0.2}]}\ngate:", "weights must rise"),
    ("gate:", "rollout: {strategy: shadow, steps: [{weight: 0.5}]}\ngate:", "one step without a weight"),
    ("gate:", "rollout: {strategy: direct, steps: [{weight: 0.5}]}\ngate:", "a direct rollout has no steps"),
    ("gate:", "project: again\ngate:", "project is written twice, first in line 1"),
    ("gate:", "gates:", "gates is not a word of this section (did you mean gate?)"),
    ("event_time: at\n", "event_time: place\n", "place must be a timestamp that is kept"),
    ("flag: {type: boolean}", "flag: {type: boolean, range: [0, 1]}", "a boolean has no range"),
    ("value: {type: number}", "value: {type: number, range: [3, 1]}", "the least value is greater than the greatest"),
    ("place: {type: string}", "place: {type: string, set: [1, NO]}", "must be text, not 1 (put it in quotes)"),
    ("place: {type: string}", 'place: {type: string, regex: "("}', "not a regular expression"),
    ("place: {type: string}", "in: {type: string}", "is a word of the expression language"),
    ("name: small-model", "name: small.model", "it becomes part of a topic's name"),
    ("template: {kind: linear}", "template: {kind: linear, epochs: 0}", "must be at least 1"),
    ("inputs: [", "inputs: [5, ", "must be text or a mapping"),
    ("id: {type: string}", "id: {type: string, pii: encrypt}", "id is encrypted and cannot be the key"),
    ("place: {type: string}", "place: {type: string, pii: encrypt}", "there is no field place"),
    (
        "at: {type: timestamp}",
        "at: {type: timestamp}\n      n: {type: number, pii: encrypt}",
        "a number cannot be encrypted",
    ),
    ("event_time: at", "event_time: at\n    retention: 90s", "must be at least 1h"),
    (
        "event_time: at",
        "event_time: at\n    retention: 30d",
        "plan has no ttl and remembers for ever, but asks keeps its events for 30d only (retention)",
    ),
]


@pytest.mark.parametrize(
    ("view", "message"),
    [
        ("ttl: 91d", "features.spot@1.ttl: spot remembers for 91d, but facts keeps its events for 3h only"),
        ("ttl: 3h", "spot has a window of 3h with its hop of 10m, but facts keeps its events for 3h only (retention)"),
    ],
)
def test_a_view_that_looks_back_further_than_its_source_keeps_is_an_error_that_names_both(view, message):
    text = SMALL.replace("small.happened", "small.happened\n    retention: 3h").replace(
        "hop: 10m", f"hop: 10m\n    {view}"
    )
    assert any(message in error for error in errors_of(text)), errors_of(text)


def test_a_retention_that_is_long_enough_is_kept():
    text = SMALL.replace("small.happened", "small.happened\n    retention: 190m")
    assert hours_kept(load_text(text).source("facts")) == 4
    assert load_text(text).source("facts").retention_us == 190 * 60_000_000
    assert hours_kept(load_text(SMALL).source("facts")) == 0


@pytest.mark.parametrize(("old", "new", "message"), CASES, ids=[case[1].strip().replace("\n", " ") for case in CASES])
def test_each_error_is_named_with_its_line(old, new, message):
    broken = SMALL.replace(old, new, 1)
    assert broken != SMALL
    found = errors_of(broken)
    assert any(message in error for error in found), found
    assert all(error.startswith("p.yaml:") for error in found)


def test_text_stays_text():
    project = load_text(SMALL.replace("place: {type: string}", "place: {type: string, set: [NO, on, yes, 12:30]}", 1))
    assert project.source("asks").field("place").set == ("NO", "on", "yes", "12:30")


@pytest.mark.parametrize(
    "text",
    ["", "a", "- a", "[", "{", "a: b: c", "\x00", "a: &a [*a]", "? [1]\n: 2", "a: !!python/name:os.system x", "1: 2",
     "[" * 5000, "- " * 5000, "a: .inf", "a: 1e999", "%YAML 9", "---\n---\n", "a: !x y", "é: \ud800"],
)  # fmt: skip
def test_nonsense_is_an_error_with_a_place(text):
    with pytest.raises(DefinitionErrors) as caught:
        load_text(text)
    assert caught.value.errors


def test_aliases_cannot_explode():
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n"
    for here, there in zip("bcdefghi", "abcdefgh", strict=True):
        bomb += f"{here}: &{here} [" + ", ".join(["*" + there] * 9) + "]\n"
    with pytest.raises(DefinitionErrors, match="too large"):
        load_text(bomb)


GATE = """\
gate:
  metric: auc
  slices: [plan.hour, {by: plan.place, min_rows: 50, values: [north], floor: 1, max_loss: 0.05}]
  fairness: [{by: plan.place, max_opportunity_gap: 0.1}]
  robustness: {noise: {share: 0.1, max_loss: 0.02}, swaps: {share: 1, max_loss: 1}}
  behaviour:
    - {name: the place is no matter, vary: plan.place, max_change: 0.1}
    - {name: late is later, raise: plan.hour, by: 3, answer: falls, max_failing: 0.2}
    - {name: known, given: {plan.place: north, plan.hour: 7}, at_least: 0.2}
"""


def test_a_gate_says_what_it_asks_of_parts_and_of_single_answers():
    project = load_text(SMALL.replace("gate: {metric: auc}\n", GATE), "p.yaml")
    gate = project.gate
    assert gate.slices == ("plan.hour", "plan.place")
    assert gate.slice_rules == (SliceRule("plan.place", 50, ("north",), 1.0, 0.05),)
    assert gate.fairness == (FairnessRule("plan.place", max_opportunity_gap=0.1),)
    assert gate.robustness == Robustness(noise=Disturbance(0.1, 0.02), swaps=Disturbance(1.0, 1.0))
    assert gate.behaviour == (
        Behaviour("the place is no matter", vary="plan.place", max_change=0.1),
        Behaviour("late is later", raised="plan.hour", by=3.0, rises=False, max_failing=0.2),
        Behaviour("known", given=(("plan.place", "north"), ("plan.hour", "7")), at_least=0.2),
    )
    assert from_canonical_json(to_canonical_json(project)) == project


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "[plan.hour, {by: plan.place",
            "[plan.our, {by: plan.place",
            "no input plan.our (did you mean plan.hour?)",
        ),
        ("floor: 1, max_loss: 0.05}]", "}]", "gate.slices[1]: asks nothing (add floor or max_loss"),
        ("{by: plan.place, max_opportunity_gap: 0.1}", "{by: plan.place}", "gate.fairness[0]: asks nothing"),
        ("vary: plan.place", "vary: plan.plaice", "there is no input plan.plaice (did you mean plan.place?)"),
        ("raise: plan.hour", "raise: plan.place", "plan.place is a text (only numbers can be raised)"),
        ("plan.hour: 7}", "plan.hour: seven}", "'seven' is no number"),
        ("at_least: 0.2", "max_failing: 0.2", "gate.behaviour[2]: asks nothing (add at_least or at_most)"),
        ("name: known", "name: late is later", "late is later is there twice"),
        ("[plan.hour, {by: plan.place", "[plan.place, {by: plan.hour", "plan.hour is a number: values are for texts"),
        ("max_failing: 0.2", "max_failing: 2", "gate.behaviour[1]"),
        ("noise: {share: 0.1, max_loss: 0.02}", "noise: {share: 0.1}", "gate.robustness.noise: max_loss is missing"),
        ("slices: [plan.hour", "slices: [plan.place", "gate.slices[1]: plan.place is there twice"),
        ("floor: 1,", "floor: 75,", "gate.slices[1]: an auc is at most 1"),
        ("max_opportunity_gap: 0.1}", "max_parity_gap: 0.1}, {by: plan.place, max_parity_gap: 1}", "is there twice"),
        ("vary: plan.place, max_change: 0.1", "vary: plan.place", "gate.behaviour[0]: max_change is missing"),
        ("answer: falls", "answer: goes", "goes is not one of rises, falls"),
        ("plan.hour: 7}", "plan.hour: true}", "gate.behaviour[2].given.plan.hour"),
        ("plan.place: north, plan", "plan.place: 007, plan", "7 is a number (write the text in quotes)"),
        ("at_least: 0.2", "at_least: 0.9, at_most: 0.1", "no answer is at least 0.9 and at most 0.1"),
        ("at_least: 0.2", "at_least: 75", "an answer is a probability"),
    ],
)
def test_a_question_that_a_gate_cannot_ask_is_one_clear_line(old, new, said):
    text = SMALL.replace("gate: {metric: auc}\n", GATE)
    assert old in text
    (error,) = errors_of(text.replace(old, new))
    assert said in error


def test_groups_are_for_decisions():
    text = SMALL.replace("value: value > 3", "value: value").replace("task: binary", "task: regression")
    text = text.replace("gate: {metric: auc}", "gate: {metric: mae, fairness: [{by: plan.place, max_parity_gap: 0.1}]}")
    (error,) = errors_of(text)
    assert "gate.fairness[0]: fairness is for binary models" in error
