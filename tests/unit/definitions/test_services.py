"""Feature services, what is said of features, and where features come from and go to."""

import pytest
from millrace.definitions import changes, from_canonical_json, load_text, to_canonical_json
from millrace.definitions.lineage import making, model_pins, users_of_view, uses
from millrace.definitions.model import Docs, FieldType

from tests.unit.definitions.test_load import SMALL, errors_of

SERVED = SMALL.replace(
    "label: {source",
    """services:
  basket@1:
    features: [plan.place, {view: spot, through: plan.place, columns: [mean_1h], as: here}]
    description: What the basket page shows.
    tags: [web]
  places@1: {entity: place, features: [{view: spot}]}
label: {source""",
    1,
)
SECOND_PLAN = "features:\n  plan@2: {source: asks, entity: id, latest: [place], derive: {hour: hour(at)}, ttl: 1d}\n"


def test_a_service_is_written_out_like_the_models_inputs_and_pins_its_views():
    project = load_text(SERVED)
    basket = project.service("basket@1")
    assert [(f.name, f.type, f.through) for f in basket.features] == [
        ("plan.place", FieldType.STRING, ""),
        ("here.mean_1h", FieldType.NUMBER, "plan.place"),
    ]
    assert basket.pins == (("plan", 1), ("spot", 1)) and basket.entity == "id"
    assert basket.docs == Docs("What the basket page shows.", "", ("web",))
    places = project.service("places")
    assert places.entity == "place" and len(places.features) == len(project.view("spot").columns)
    assert from_canonical_json(to_canonical_json(project)) == project


def test_a_service_may_name_an_older_version_of_a_view():
    text = SERVED.replace("features:\n", SECOND_PLAN, 1)
    assert dict(load_text(text).service("basket").pins) == {"plan": 2, "spot": 1}
    pinned = text.replace("features: [plan.place,", "features: [plan@1.hour,")
    basket = load_text(pinned).service("basket")
    assert dict(basket.pins) == {"plan": 1, "spot": 1}
    assert [f.name for f in basket.features] == ["plan.hour", "here.mean_1h"]


CASES = [
    ("[plan.place, {", "[plan.plaze, {", "plan has no column plaze (did you mean place?)"),
    ("[plan.place, {", "[plam.place, {", "there is no view plam (did you mean plan?)"),
    ("[plan.place, {", "[plan@7.place, {", "there is no view plan@7"),
    ("[plan.place, {", "[spot.mean_1h, {", "spot is about place, not about the predict entity id"),
    ("[{view: spot}]", "[plan.place]", "plan is about id, not about the service's entity place"),
    ("entity: place, features: [{", "entity: plaze, features: [{", "no view is about plaze (did you mean place?)"),
    ("basket@1:", "basket:", "name@version, such as basket@1"),
    ("basket@1:", "small-model@1:", "small-model is the model's name"),
    ("[{view: spot}]", "[]", "must have at least 1"),
    ("tags: [web]", "tag: [web]", "tag is not a word of this section (did you mean tags?)"),
]


@pytest.mark.parametrize(("old", "new", "message"), CASES, ids=[case[1] for case in CASES])
def test_errors_of_services_name_their_place_and_the_fix(old, new, message):
    broken = SERVED.replace(old, new, 1)
    assert broken != SERVED
    found = errors_of(broken)
    assert any(message in error for error in found), found


def test_two_versions_of_a_view_do_not_meet_in_one_service():
    text = SERVED.replace("features:\n", SECOND_PLAN, 1).replace("[plan.place,", "[plan@1.hour, plan@2.place,")
    assert any("plan@1 is in this service already" in error for error in errors_of(text))


def refused(old: str, new: str) -> str:
    with pytest.raises(Exception, match="cannot change") as caught:
        load_text(new, "p.yaml", [load_text(old)])
    return str(caught.value)


def test_a_published_service_cannot_change_and_the_message_says_how_to_keep_it():
    told = refused(SERVED, SERVED.replace("features: [plan.place,", "features: [plan.hour,"))
    assert "basket@1 is published and cannot change (name the changed service basket@2)" in told
    told = refused(SERVED, SERVED.replace("features:\n", SECOND_PLAN, 1))
    assert "it takes plan@1: write so, or name the changed service basket@2" in told


def test_what_is_only_said_may_change_and_is_told():
    said = SERVED.replace("latest: [place],", "latest: [place], description: Where it is., columns: {place: Street},")
    again = said.replace("What the basket page shows.", "What everybody shows.").replace("Street", "Street and number")
    first, second, third = load_text(SERVED), load_text(said), load_text(again, "p.yaml", [load_text(said)])
    assert second.view("plan").docs_of("place") == Docs("Street")
    assert changes(first, load_text(said, "p.yaml", [first])) == ["view plan@1 is described anew: its values stay"]
    assert "service basket@1 is described anew" in changes(second, third)
    assert changes(first, load_text(SMALL)) == [
        "service basket@1 is gone: whoever asks for it is refused",
        "service places@1 is gone: whoever asks for it is refused",
    ]
    assert "service basket@1 is new" in changes(None, first)


def test_what_is_said_of_an_aggregate_holds_for_its_windows():
    text = SMALL.replace(
        "aggregates: {mean",
        "columns: {mean: {description: Mean value, owner: ann}, mean_3h: Long}\n    aggregates: {mean",
    )
    spot = load_text(text).view("spot")
    assert spot.docs_of("mean_1h") == Docs("Mean value", "ann") and spot.docs_of("mean_3h") == Docs("Long")
    assert spot.docs_of("count_1h") == Docs()
    assert any("there is no column maen" in e for e in errors_of(text.replace("columns: {mean:", "columns: {maen:")))


def test_where_a_feature_comes_from_and_goes_to():
    project = load_text(SERVED)
    plan, spot = project.view("plan"), project.view("spot")
    assert making(spot, "mean_1h").text == "mean(value) over 1h"
    assert making(spot, "mean_1h").fields == ("value",) and making(spot, "mean_1h").selecting == ("place",)
    assert making(plan, "hour").fields == ("at",) and making(plan, "place").text == "newest place"
    assert making(spot, "count_1h").fields == ()
    assert [(u.kind, u.name, u.feature, u.through) for u in uses(project, spot, "mean_1h")] == [
        ("model", "small-model", "spot.mean_1h", "plan.place"),
        ("service", "basket@1", "here.mean_1h", "plan.place"),
        ("service", "places@1", "spot.mean_1h", ""),
    ]
    assert ("service", "basket@1", "here.mean_1h") in [
        (u.kind, u.name, u.feature) for u in uses(project, plan, "place")
    ]
    assert model_pins(project) == {"plan": 1, "spot": 1}
    assert users_of_view(project, "plan@1") == ["model small-model", "service basket@1"]
    assert users_of_view(project, "plan@2") == []


def test_composite_entities_are_followed_too():
    text = (
        SERVED.replace(
            "features:\n",
            "features:\n  duo@1: {source: facts, entity: [place, id], hop: 1h, windows: [3h],"
            " aggregates: {high: 'quantile(value, 0.9)', recent: 'last_k(value, 2)'}}\n",
            1,
        )
        .replace(
            "services:\n",
            """services:
  duos@1: {entity: [place, id], features: [{view: duo}]}
  duos@2: {features: [{view: duo@1, through: [plan@1.place, plan@1.id], as: two}]}
""",
            1,
        )
        .replace("latest: [place]", "latest: [place, id]")
    )
    project = load_text(text)
    duo, joined = project.view("duo"), project.service("duos@2")
    assert project.service("duos@1").entity == "place,id" and joined.features[0].through == "plan.place,plan.id"
    assert joined.pins == (("duo", 1), ("plan", 1))
    assert making(duo, "high_3h").text == "quantile(value, 0.9) over 3h"
    assert making(duo, "recent_2_3h").text == "last_k(value, 2) over 3h, number 2"
    assert making(duo, "high_3h").selecting == ("id", "place")
    assert [u.name for u in uses(project, project.view("plan"), "id")] == ["duos@2"] * 3
