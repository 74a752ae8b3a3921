"""What a project file means, as immutable values. Parsing, checking and writing live beside it; rooms import from here.

All durations and times are whole microseconds (`_us`). Expressions are kept as the text that `millrace.expressions`
parses; a definition that was accepted parses.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from millrace.definitions.gate import Gate

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US


class Clock(StrEnum):
    """Where a project's time comes from."""

    WALL = "wall"
    REPLAY = "replay"


class FieldType(StrEnum):
    """Types of user data. A timestamp is ISO 8601 with offset, or integer microseconds since the epoch."""

    STRING = "string"
    NUMBER = "number"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    TIMESTAMP = "timestamp"


class Pii(StrEnum):
    """What happens to a personal field at the door."""

    KEEP = "keep"
    DROP = "drop"
    HASH = "hash"
    MASK = "mask"
    ENCRYPT = "encrypt"


class Task(StrEnum):
    """What the model predicts."""

    BINARY = "binary"
    REGRESSION = "regression"


class Missing(StrEnum):
    """What a truth that never comes means."""

    CENSORED = "censored"
    DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Reference:
    """Another field of the project's, in which each value must have been seen."""

    source: str
    field: str


@dataclass(frozen=True, slots=True)
class Field:
    """One typed field of a source, with its expectations. `required` to `regex` judge each event; `max_null_share`,
    `unique` and `references` judge each window of accepted events, and refuse none."""

    name: str
    type: FieldType
    required: bool = False
    range: tuple[float, float] | None = None
    set: tuple[str, ...] | None = None
    regex: str | None = None  # must match the whole text
    pii: Pii = Pii.KEEP
    max_null_share: float | None = None
    unique: bool = False  # no value twice in a window
    references: Reference | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """A stream of one event type; topics `raw.<project>.<name>` and `data.<project>.<name>`."""

    name: str
    event_type: str
    key: str  # field that is the Kafka key
    event_time: str  # field of type timestamp
    fields: tuple[Field, ...]
    lateness_us: int = HOUR_US
    max_future_us: int = 300_000_000  # event time beyond the clock by more than this is refused
    freshness_us: int = 0  # the longest silence that is ordinary; 0: any
    retention_us: int = 0  # how long its events are kept, in topics and in history; 0: the topics' own, and for ever

    def field(self, name: str) -> Field:
        """The field called `name`; KeyError when there is none."""
        for candidate in self.fields:
            if candidate.name == name:
                return candidate
        raise KeyError(name)


def hours_kept(source: Source) -> int:
    """The retention of a source's topics in whole hours, rounded up; 0: the table's own."""
    return -(-source.retention_us // HOUR_US)


@dataclass(frozen=True, slots=True)
class Predict:
    """What one example is, for training and for serving."""

    source: str
    entity: str  # field of the source
    moment: str  # expression over the source's fields, a timestamp
    request: tuple[str, ...] = ()  # request-time columns, fields of the source


class Aggregation(StrEnum):
    """Windowed aggregates."""

    COUNT = "count"
    SUM = "sum"
    MEAN = "mean"
    STD = "std"
    MIN = "min"
    MAX = "max"
    FIRST = "first"
    LAST = "last"
    LAST_K = "last_k"
    DISTINCT = "distinct"
    QUANTILE = "quantile"


WITH_ARGUMENT = (Aggregation.LAST_K, Aggregation.QUANTILE)


@dataclass(frozen=True, slots=True)
class Aggregate:
    """`name: function(expression)` of a windowed view, or `function(expression, argument)`."""

    name: str
    function: Aggregation
    expression: str = ""  # empty for count()
    argument: float = 0.0  # the share of a quantile, the k of last_k

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of its numbers without the window: its own, or `name_1` (the newest) to `name_k` for last_k."""
        if self.function is Aggregation.LAST_K:
            return tuple(f"{self.name}_{place}" for place in range(1, int(self.argument) + 1))
        return (self.name,)


@dataclass(frozen=True, slots=True)
class Docs:
    """What people say of a view, a column or a service; it changes no value, and may change at any time."""

    description: str = ""
    owner: str = ""
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class View:
    """One immutable version of features about one entity, from one source.

    Either `latest` (fields of the newest event, plus `derive`d expressions over it) or `aggregates` over `windows`.
    """

    name: str
    version: int
    source: str
    entity: str  # field of the source whose value is the entity key, or `field,field`; a null key is skipped
    latest: tuple[str, ...] = ()
    derive: tuple[tuple[str, str], ...] = ()  # (name, expression)
    aggregates: tuple[Aggregate, ...] = ()
    windows_us: tuple[int, ...] = ()
    hop_us: int = 0
    where: str = ""  # row expression; rows where it is not true are skipped
    ttl_us: int = 0  # 0: no limit
    docs: Docs = field(default_factory=Docs)
    column_docs: tuple[tuple[str, Docs], ...] = ()  # by column; the name of an aggregate stands for all its windows

    @property
    def entity_fields(self) -> tuple[str, ...]:
        """The fields whose values make the entity key, in order: one, or several of a composite entity."""
        return tuple(self.entity.split(","))

    @property
    def is_windowed(self) -> bool:
        """Whether this view aggregates over windows."""
        return bool(self.aggregates)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of this view's features without the view's name; windowed ones end in the window: `delay_mean_3h`."""
        if self.is_windowed:
            outputs = [output for aggregate in self.aggregates for output in aggregate.outputs]
            return tuple(f"{output}_{format_duration(w)}" for output in outputs for w in self.windows_us)
        return (*self.latest, *(name for name, _ in self.derive))

    def docs_of(self, column: str) -> Docs:
        """What is said of a column; of a windowed one, what is said of its aggregate where nothing else is."""
        known = dict(self.column_docs)
        aggregate = max((a.name for a in self.aggregates if column.startswith(f"{a.name}_")), key=len, default="")
        return known.get(column) or known.get(aggregate) or Docs()


@dataclass(frozen=True, slots=True)
class Input:
    """One column of the model: a view's feature, joined through another view's feature where `through` is set."""

    name: str  # `view.column`, unique in the model, e.g. `origin_departures.delay_mean_1h`
    view: str
    column: str
    type: FieldType  # STRING or NUMBER (integers, booleans and timestamps are numbers to a model)
    through: str = ""  # `view.column` of a view on the predict entity, or several: `view.column,view.column`

    @property
    def carriers(self) -> tuple[str, ...]:
        """The `view.column`s that hold the joined view's entity; none: the predict entity itself."""
        return tuple(self.through.split(",")) if self.through else ()


@dataclass(frozen=True, slots=True)
class FeatureService:
    """A named, immutable set of features, all asked by one entity's key, of pinned versions of their views."""

    name: str
    version: int
    entity: str  # field whose value is the key that is asked
    features: tuple[Input, ...]
    pins: tuple[tuple[str, int], ...]  # (view, version) of every view involved, those joined through included
    docs: Docs = field(default_factory=Docs)

    @property
    def id(self) -> str:
        """`name@version`."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True)
class Label:
    """Where truth comes from and when it counts."""

    source: str
    key: str  # field whose value equals the predict entity
    value: str  # expression over the source's fields; null means unknowable: censored
    horizon_us: int
    missing: Missing = Missing.CENSORED
    default: float = 0.0  # used when missing is DEFAULT


@dataclass(frozen=True, slots=True)
class Template:
    """Which net, and its settings."""

    kind: str  # linear, mlp, wide-and-deep
    hidden: tuple[int, ...] = (64, 32)
    epochs: int = 12
    learning_rate: float = 0.002
    batch_size: int = 1024
    seed: int = 7


@dataclass(frozen=True, slots=True)
class Model:
    """What is trained and which simple models it must beat."""

    name: str
    task: Task
    template: Template
    inputs: tuple[Input, ...]
    baselines: tuple[str, ...] = ("constant", "linear")


@dataclass(frozen=True, slots=True)
class Training:
    """When a request becomes a run. All durations run on the project's clock."""

    new_labels: int = 0  # 0: this trigger is off
    on_drift: bool = False
    every_us: int = 0  # 0: no schedule
    window_us: int = 60 * DAY_US
    debounce_us: int = 0
    cooldown_us: int = 0
    budget_per_day: int = 4
    min_rows: int = 200


@dataclass(frozen=True, slots=True)
class CanaryStep:
    """One step of a canary: held until both the time and the count have passed."""

    weight: float
    after_us: int = 0
    min_predictions: int = 0


@dataclass(frozen=True, slots=True)
class Rollout:
    """How a gated version becomes champion."""

    strategy: str = "canary"  # direct, canary, shadow
    steps: tuple[CanaryStep, ...] = ()
    guard_us: int = DAY_US


@dataclass(frozen=True, slots=True)
class DriftMonitor:
    """Input, label or prediction drift with a declared rate of false alarms."""

    false_alarms_per_year: float
    window_us: int
    action: str = "alert"  # alert, retrain


@dataclass(frozen=True, slots=True)
class QualityMonitor:
    """Share of refused events per source."""

    max_quarantined_share: float = 0.05
    window_us: int = 6 * HOUR_US
    action: str = "alert"


@dataclass(frozen=True, slots=True)
class PerformanceMonitor:
    """Realised performance per window."""

    window_us: int = 7 * DAY_US
    action: str = "alert"


@dataclass(frozen=True, slots=True)
class ReleaseMonitor:
    """The judge of a fresh release against the version it replaced, on the same logged inputs."""

    max_disagreement: float = 0.4  # mean |difference| of probabilities, or of numbers in units of the target's std
    min_predictions: int = 150
    min_labels: int = 300
    confidence: float = 0.99
    action: str = "rollback"


@dataclass(frozen=True, slots=True)
class Monitors:
    """Everything that is watched; None: off."""

    drift: DriftMonitor | None = None
    label_drift: DriftMonitor | None = None
    data_quality: QualityMonitor = field(default_factory=QualityMonitor)
    performance: PerformanceMonitor = field(default_factory=PerformanceMonitor)
    release: ReleaseMonitor = field(default_factory=ReleaseMonitor)


@dataclass(frozen=True, slots=True)
class Project:
    """One accepted project file."""

    name: str
    description: str
    clock: Clock
    sources: tuple[Source, ...]
    predict: Predict
    views: tuple[View, ...]
    label: Label
    model: Model
    training: Training
    gate: Gate
    rollout: Rollout
    monitors: Monitors
    services: tuple[FeatureService, ...] = ()

    def source(self, name: str) -> Source:
        """The source called `name`; KeyError when there is none."""
        for candidate in self.sources:
            if candidate.name == name:
                return candidate
        raise KeyError(name)

    def view(self, name: str) -> View:
        """The newest version of the view called `name`; KeyError when there is none."""
        versions = [v for v in self.views if v.name == name]
        if not versions:
            raise KeyError(name)
        return max(versions, key=lambda v: v.version)

    def service(self, name: str) -> FeatureService:
        """The service `name@version`, or the newest version of `name`; KeyError when there is none."""
        found = [s for s in self.services if name in (s.id, s.name)]
        if not found:
            raise KeyError(name)
        return max(found, key=lambda s: s.version)

    def views_of(self, source: str) -> tuple[View, ...]:
        """Every view fed by `source`."""
        return tuple(v for v in self.views if v.source == source)


def format_duration(duration_us: int) -> str:
    """The shortest exact text of a duration: `90s`, `10m`, `3h`, `7d`."""
    for unit, size_us in (("d", DAY_US), ("h", HOUR_US), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000)):
        if duration_us % size_us == 0 and duration_us >= size_us:
            return f"{duration_us // size_us}{unit}"
    return f"{duration_us}us"
