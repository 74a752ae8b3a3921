"""The JSON Schema of a project file: its shape, its words and what each of them means.

What a schema cannot say (names that must exist, types of expressions) is checked in `semantics`.
"""

from __future__ import annotations

from typing import Any

from millrace.definitions.model import Aggregation, Clock, FieldType, Missing, Pii, Task

Schema = dict[str, Any]

NAME = r"^[a-z0-9][a-z0-9_-]{0,62}$"  # becomes part of Kafka topics: no dots
IDENTIFIER = r"^[A-Za-z_][A-Za-z0-9_]{0,62}$"  # becomes a name in expressions
VIEW = r"^[a-z][a-z0-9_]{0,62}@[1-9][0-9]{0,5}$"
SERVICE = r"^[a-z][a-z0-9_-]{0,62}@[1-9][0-9]{0,5}$"
COLUMN = r"^[^,]+$"
DURATION = r"^[0-9]{1,9}(ms|s|m|h|d)$"
AGGREGATE = r"^\s*[a-z_]+\s*\(.*\)\s*$"

METRICS = {Task.BINARY: ("auc", "log_loss"), Task.REGRESSION: ("mae", "rmse")}
BASELINES = ("constant", "linear")
TEMPLATES = ("linear", "mlp", "wide-and-deep")
STRATEGIES = ("direct", "shadow", "canary")


def json_schema() -> Schema:
    """JSON Schema (draft 2020-12) of a project file, as published in docs/project.schema.json."""
    schema = _object(
        "One Millrace project.",
        {
            "project": _text("The project's name; part of its topics.", NAME),
            "description": {"type": "string", "description": "One sentence for people."},
            "clock": _choice("Where the project's time comes from; cannot change later.", [c.value for c in Clock]),
            "sources": _named("Streams of events, by name.", NAME, _source()),
            "predict": _predict(),
            "features": _named("Feature views `name@version`; a changed view is a new version.", VIEW, _view()),
            "services": _named(
                "Feature services `name@version`: named sets of features; a changed set is a new version.",
                SERVICE,
                _service(),
            ),
            "label": _label(),
            "model": _model(),
            "training": _training(),
            "gate": _gate(),
            "rollout": _rollout(),
            "monitors": _monitors(),
        },
        required=("project", "sources", "predict", "features", "label", "model", "gate"),
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://millrace.dev/schemas/project.schema.json",
        "title": "Millrace project file",
        **schema,
    }


def _object(description: str, properties: dict[str, Schema], required: tuple[str, ...] = ()) -> Schema:
    return {
        "description": description,
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _named(description: str, pattern: str, item: Schema) -> Schema:
    return {
        "description": description,
        "type": "object",
        "minProperties": 1,
        "maxProperties": 200,
        "propertyNames": {"pattern": pattern},
        "additionalProperties": item,
    }


def _text(description: str, pattern: str = "") -> Schema:
    schema: Schema = {"description": description, "type": "string", "minLength": 1, "maxLength": 1000}
    return {**schema, "pattern": pattern} if pattern else schema


def _one_or_more(description: str, pattern: str) -> Schema:
    several = _list(description, _text("One of them.", pattern), minItems=2, uniqueItems=True) | {"maxItems": 8}
    return {"description": description, "anyOf": [_text(description, pattern), several]}


def _choice(description: str, values: list[str] | tuple[str, ...], default: str = "") -> Schema:
    schema: Schema = {"description": description, "type": "string", "enum": list(values)}
    return {**schema, "default": default} if default else schema


def _duration(description: str) -> Schema:
    return {"description": f"{description} (90s, 10m, 3h, 7d)", "type": "string", "pattern": DURATION}


def _number(description: str, **bounds: float) -> Schema:
    return {"description": description, "type": "number", **bounds}


def _integer(description: str, **bounds: int) -> Schema:
    return {"description": description, "type": "integer", "maximum": 10**12, **bounds}


def _list(description: str, item: Schema, **bounds: Any) -> Schema:
    return {"description": description, "type": "array", "items": item, "maxItems": 1000, **bounds}


def _source() -> Schema:
    reference = _object(
        "Each value must have been seen in this field; judged per window, refuses nothing.",
        {
            "source": _text("Source of the field.", NAME),
            "field": _text("Field that holds the known values.", IDENTIFIER),
        },
        required=("source", "field"),
    )
    field = _object(
        "One typed field with its expectations.",
        {
            "type": _choice("Type of the value; a timestamp is ISO 8601 with offset.", [t.value for t in FieldType]),
            "required": {"description": "Null is refused.", "type": "boolean", "default": False},
            "range": _list("Least and greatest number allowed.", {"type": "number"}, minItems=2, maxItems=2),
            "set": _list("The only texts allowed.", {"type": "string"}, minItems=1, uniqueItems=True),
            "regex": _text("Regular expression that the whole text must match."),
            "pii": _choice("What happens to a personal value at the door.", [p.value for p in Pii], "keep"),
            "max_null_share": _number(
                "Share of a window's events that may lack it; refuses nothing.", minimum=0, exclusiveMaximum=1
            ),
            "unique": {
                "description": "No value comes twice in a window; refuses nothing.",
                "type": "boolean",
                "default": False,
            },
            "references": reference,
        },
        required=("type",),
    )
    return _object(
        "A stream of one event type.",
        {
            "event_type": _text("CloudEvents type of its events."),
            "key": _text("Field that is the Kafka key; implies required.", IDENTIFIER),
            "event_time": _text("Field of type timestamp that says when it happened; implies required.", IDENTIFIER),
            "fields": _named("Fields by name.", IDENTIFIER, field),
            "lateness": _duration("An event this much later than its time is ordinary"),
            "max_future": _duration("An event time beyond the clock by more than this is refused"),
            "freshness": _duration("The longest silence that is ordinary, seen when a window ends"),
            "retention": _duration("How long its events are kept, in topics and in the features' history"),
        },
        required=("event_type", "key", "event_time", "fields"),
    )


def _predict() -> Schema:
    return _object(
        "What one example is, for training and for serving.",
        {
            "source": _text("The event that asks for a prediction.", NAME),
            "entity": _text("Field whose value names the example's entity.", IDENTIFIER),
            "moment": _text("Expression: the time as of which the prediction is made; a timestamp."),
            "request": _list("Fields that the caller sends along.", _text("Field.", IDENTIFIER), uniqueItems=True),
        },
        required=("source", "entity", "moment"),
    )


def _view() -> Schema:
    expressions: Schema = {
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"pattern": IDENTIFIER},
        "additionalProperties": _text("Expression."),
    }
    functions = ", ".join(a.value for a in Aggregation)
    return _object(
        "One immutable version of features about one entity: the latest values, or aggregates over windows.",
        {
            "source": _text("The source that feeds it.", NAME),
            "entity": _one_or_more(
                "Field whose value is the entity, or several fields; a null one is skipped.", IDENTIFIER
            ),
            "latest": _list(
                "Fields taken from the newest event.", _text("Field.", IDENTIFIER), minItems=1, uniqueItems=True
            ),
            "derive": {**expressions, "description": "Columns computed from the newest event: name to expression."},
            "aggregates": {
                **expressions,
                "description": f"Columns per window: name to function(expression); functions: {functions}.",
                "additionalProperties": _text("function(expression)", AGGREGATE),
            },
            "windows": _list("Windows, multiples of the hop.", _duration("Window"), minItems=1, maxItems=24),
            "hop": _duration("Width of a tile: windows move in these steps"),
            "where": _text("Expression; rows where it is not true are skipped."),
            "ttl": _duration("Older values read as expired; leave out for no limit"),
            **_docs(),
            "columns": {
                "description": "What is said of single columns; an aggregate's name stands for all its windows.",
                "type": "object",
                "maxProperties": 1000,
                "additionalProperties": {
                    "anyOf": [_text("What it is."), _object("What is said of a column.", _docs())]
                },
            },
        },
        required=("source", "entity"),
    )


def _docs() -> dict[str, Schema]:
    """What people say of a thing; it may change at any time."""
    return {
        "description": _text("What it is, in words for people."),
        "owner": _text("Who answers for it."),
        "tags": _list("Words to find it by.", _text("Tag."), uniqueItems=True),
    }


def _service() -> Schema:
    return _object(
        "One immutable set of features, read and asked for by its name.",
        {
            "entity": _one_or_more(
                "Field whose value is the key that is asked, or several; default: the predict entity.", IDENTIFIER
            ),
            "features": _list("Its features; `view@version` pins a version, else the newest.", _input(), minItems=1),
            **_docs(),
        },
        required=("features",),
    )


def _label() -> Schema:
    return _object(
        "Where truth comes from and when it counts.",
        {
            "source": _text("The source that brings the truth.", NAME),
            "key": _text("Field whose value equals the predict entity.", IDENTIFIER),
            "value": _text("Expression: the truth; null means unknowable."),
            "horizon": _duration("Time after the moment at which the truth counts as mature"),
            "missing": _choice("What a truth that never comes means.", [m.value for m in Missing], "censored"),
            "default": _number("The truth assumed when missing is default."),
        },
        required=("source", "key", "value", "horizon"),
    )


def _input() -> Schema:
    joined = _object(
        "All columns of a view, or some, joined through another view's feature.",
        {
            "view": _text("Name of the view, without version."),
            "columns": _list("Only these columns.", _text("Column.", IDENTIFIER), minItems=1, uniqueItems=True),
            "through": _one_or_more(
                "`view.column` of a view on the predict entity that names this view's entity; one per field of it.",
                COLUMN,
            ),
            "as": _text("Prefix of the inputs' names instead of the view's.", IDENTIFIER),
        },
        required=("view",),
    )
    return {"anyOf": [_text("`view.column` of a view about the entity that is asked."), joined]}


def _model() -> Schema:
    template = _object(
        "Which net, and its settings.",
        {
            "kind": _choice("Kind of net.", TEMPLATES),
            "hidden": _list("Widths of the hidden layers.", _integer("Width.", minimum=1, maximum=4096), maxItems=8),
            "epochs": _integer("Passes over the training set.", minimum=1, maximum=1000),
            "learning_rate": _number("Step size.", exclusiveMinimum=0, maximum=10),
            "batch_size": _integer("Rows per step.", minimum=1, maximum=1_000_000),
            "seed": _integer("Seed of everything random.", minimum=0),
        },
        required=("kind",),
    )
    return _object(
        "What is trained and which simple models it must beat.",
        {
            "name": _text("Name of the model, unique on the platform.", NAME),
            "task": _choice("What it predicts.", [t.value for t in Task]),
            "template": template,
            "inputs": _list("Columns of the model.", _input(), minItems=1),
            "baselines": _list("Simple models to beat.", _choice("Baseline.", BASELINES), uniqueItems=True),
        },
        required=("name", "task", "template", "inputs"),
    )


def _training() -> Schema:
    triggers = _object(
        "What asks for a run.",
        {
            "new_labels": _integer("Labels matured since the last run; 0: off.", minimum=0),
            "drift": {"description": "Drift alarms ask too.", "type": "boolean"},
            "schedule": _duration("Every so often"),
        },
    )
    return _object(
        "When a request becomes a run, on the project's clock.",
        {
            "triggers": triggers,
            "window": _duration("History that is trained on"),
            "debounce": _duration("Requests this close together become one run"),
            "cooldown": _duration("No run sooner than this after the last"),
            "budget_per_day": _integer("Runs per day at most.", minimum=1, maximum=1000),
            "min_rows": _integer("Fewer labelled rows are not trained on.", minimum=10),
        },
    )


def _gate() -> Schema:
    metrics = [metric for names in METRICS.values() for metric in names]
    return _object(
        "What a candidate must show before it may be released.",
        {
            "metric": _choice("The metric that compares candidate and champion.", metrics),
            "floors": {
                "description": "Worst value allowed, per metric.",
                "type": "object",
                "properties": {metric: _number("Worst value allowed.", minimum=0) for metric in metrics},
                "additionalProperties": False,
            },
            "margin": _number("Gain over the champion that is required.", minimum=0),
            "confidence": _number("One-sided confidence of that gain.", minimum=0.5, exclusiveMaximum=1),
            "holdout": _number("Newest share of examples, never trained on.", exclusiveMinimum=0, maximum=0.9),
            "calibration": _object(
                "Calibration.", {"max_ece": _number("Greatest expected calibration error.", minimum=0)}
            ),
            "latency": _object(
                "Speed and size.",
                {
                    "max_p99_ms": _number("Slowest 99th percentile of one row, milliseconds.", exclusiveMinimum=0),
                    "max_size_mb": _number("Largest model file, megabytes.", exclusiveMinimum=0),
                },
            ),
            "slices": _list("Parts of the holdout that are looked at alone.", _slice(), uniqueItems=True),
            "fairness": _list("Gaps between groups; of binary models.", _fairness()),
            "robustness": _robustness(),
            "behaviour": _list("Expectations of single answers, each tried on the holdout.", _behaviour()),
        },
        required=("metric",),
    )


def _slice() -> Schema:
    judged = _object(
        "Judged, too: refused where a slice is shown to be worse, at the gate's confidence shared among all.",
        {
            "by": _text("Input."),
            "min_rows": _integer("Of a slice with fewer rows nothing is said.", minimum=30),
            "values": _list("Values that must have enough rows.", _text("Value."), minItems=1, uniqueItems=True),
            "floor": _number("Worst value of the gate's metric in any slice.", minimum=0),
            "max_loss": _number("Greatest loss against the champion in any slice.", minimum=0),
        },
        required=("by",),
    )
    return {"anyOf": [_text("Input by whose values the metric is reported."), judged]}


def _fairness() -> Schema:
    return _object(
        "Refused where a gap between the groups is shown to be greater, at the gate's confidence.",
        {
            "by": _text("Input whose values are the groups."),
            "min_rows": _integer("Of a group with fewer rows nothing is said.", minimum=30),
            "max_opportunity_gap": _number("In true positive rates (equal opportunity).", minimum=0, maximum=1),
            "max_parity_gap": _number("In rates of positive decisions (demographic parity).", minimum=0, maximum=1),
        },
        required=("by",),
    )


def _robustness() -> Schema:
    def disturbance(description: str, share: Schema) -> Schema:
        loss = _number("What it may cost in the gate's metric.", minimum=0)
        return _object(description, {"share": share, "max_loss": loss}, required=("share", "max_loss"))

    probability = _number("Probability of each.", exclusiveMinimum=0, maximum=1)
    spread = _number("In standard deviations.", exclusiveMinimum=0, maximum=10)
    return _object(
        "The same holdout with worse inputs.",
        {
            "noise": disturbance("Normal noise on each number.", spread),
            "missing": disturbance("Values that are missing.", probability),
            "swaps": disturbance("Texts that are another row's.", probability),
        },
    )


def _behaviour() -> Schema:
    name = {"name": _text("What is expected, in words; names the check.")}
    failing = {"max_failing": _number("Share of the rows that may do otherwise.", minimum=0, exclusiveMaximum=1)}
    change = {"max_change": _number("Change of an answer that does not count.", minimum=0)}
    value = {"description": "Value.", "anyOf": [_text("Text."), _number("Number.")]}
    limits = {"at_least": _number("Least answer."), "at_most": _number("Greatest answer.")}
    vary = {"vary": _text("Input that takes another row's value and must not matter.")}
    raised = {
        "raise": _text("Number that is raised."),
        "by": _number("By so much.", exclusiveMinimum=0),
        "answer": _choice("What the answer then does.", ("rises", "falls")),
    }
    given = {
        "given": {
            "description": "Inputs that are set, in every row.",
            "type": "object",
            "minProperties": 1,
            "maxProperties": 100,
            "additionalProperties": value,
        }
    }
    kinds = [
        _object("Invariance.", {**name, **vary, **change, **failing}, ("name", "vary", "max_change")),
        _object("Direction.", {**name, **raised, **change, **failing}, ("name", "raise", "by", "answer")),
        _object("Minimum.", {**name, **given, **limits, **failing}, ("name", "given")),
    ]
    return {"anyOf": kinds}


def _rollout() -> Schema:
    step = _object(
        "One step, held until both the time and the count have passed.",
        {
            "weight": _number("Share of keys, above 0 and below 1.", exclusiveMinimum=0, exclusiveMaximum=1),
            "after": _duration("Least time in this step"),
            "min_predictions": _integer("Least predictions in this step.", minimum=0),
        },
    )
    return _object(
        "How a gated version becomes champion.",
        {
            "strategy": _choice("direct at once; shadow beside first; canary in steps.", STRATEGIES, "canary"),
            "steps": _list("Steps of the canary, or the one step of a shadow.", step, maxItems=20),
            "guard": _duration("How long the replaced version stays warm"),
        },
    )


def _monitors() -> Schema:
    window = _duration("Window on the project's clock")
    drift = _object(
        "Drift with a declared rate of false alarms.",
        {
            "false_alarms_per_year": _number(
                "False alarms per year that are accepted.", exclusiveMinimum=0, maximum=10_000
            ),
            "window": window,
            "action": _choice("What follows.", ("alert", "retrain"), "alert"),
        },
        required=("false_alarms_per_year", "window"),
    )
    alert = _choice("What follows.", ("alert",), "alert")
    return _object(
        "Everything that is watched.",
        {
            "drift": {**drift, "description": "Drift of inputs and predictions."},
            "label_drift": {**drift, "description": "Drift of the truth."},
            "data_quality": _object(
                "Share of refused events.",
                {
                    "max_quarantined_share": _number("Share that is accepted.", minimum=0, maximum=1),
                    "window": window,
                    "action": alert,
                },
            ),
            "performance": _object("Realised performance.", {"window": window, "action": alert}),
            "release": _object(
                "The judge of a fresh release against the version it replaced.",
                {
                    "max_disagreement": _number("Mean difference of outputs that is accepted.", exclusiveMinimum=0),
                    "min_predictions": _integer("Pairs needed before labels.", minimum=1),
                    "min_labels": _integer("Labelled pairs needed.", minimum=1),
                    "confidence": _number("Confidence needed to act.", minimum=0.5, exclusiveMaximum=1),
                    "action": _choice("What follows.", ("alert", "rollback"), "rollback"),
                },
            ),
        },
    )
