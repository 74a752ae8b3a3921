"""What a candidate must show before it may be released, as immutable values.

Of the whole holdout the candidate has to show that it is good. Parts of it (slices, groups) are small, and a point
estimate would refuse good models by chance: they are refused where they are shown to be bad, at the gate's confidence
shared among the parts that one rule looks at.
"""

from __future__ import annotations

from dataclasses import dataclass

MIN_SLICE_ROWS = 100
MAX_FAILING = 0.05


@dataclass(frozen=True, slots=True)
class SliceRule:
    """The gate's metric for each value of an input that has enough rows in the holdout."""

    by: str  # an input
    min_rows: int = MIN_SLICE_ROWS  # of fewer nothing is said
    values: tuple[str, ...] = ()  # that must have enough rows; none: whatever is frequent
    floor: float | None = None  # worst value of the metric in any slice
    max_loss: float | None = None  # greatest loss against the champion in any slice


@dataclass(frozen=True, slots=True)
class FairnessRule:
    """Gaps between the greatest and the least rate of the groups that an input makes; of binary models.

    Equal opportunity and demographic parity as in Hardt, Price, Srebro: Equality of Opportunity in Supervised Learning
    (2016).
    """

    by: str  # an input
    min_rows: int = MIN_SLICE_ROWS  # of a group, else nothing is said of it
    max_opportunity_gap: float | None = None  # in true positive rates
    max_parity_gap: float | None = None  # in rates of positive decisions


@dataclass(frozen=True, slots=True)
class Disturbance:
    """How much is disturbed, and what it may cost in the gate's metric."""

    share: float
    max_loss: float


@dataclass(frozen=True, slots=True)
class Robustness:
    """The same holdout with worse inputs."""

    noise: Disturbance | None = None  # normal noise on each number, `share` of its standard deviation
    missing: Disturbance | None = None  # each value is missing with the probability `share`
    swaps: Disturbance | None = None  # each text is that of another row with the probability `share`


@dataclass(frozen=True, slots=True)
class Behaviour:
    """One expectation of single answers: of an input that must not matter (`vary`), of a direction (`raised`), or of
    rows of which people know the answer (`given`). After Ribeiro et al.: Beyond Accuracy, CheckList (2020)."""

    name: str
    vary: str = ""  # an input that takes the value of another row
    raised: str = ""  # a number that is raised
    by: float = 0.0  # by so much
    rises: bool = True  # what the answer then does; else it falls
    given: tuple[tuple[str, str], ...] = ()  # inputs that are set, numbers as text
    at_least: float | None = None  # the answer then
    at_most: float | None = None
    max_change: float = 0.0  # of an answer that is not counted against it
    max_failing: float = MAX_FAILING  # share of the rows that may do otherwise

    @property
    def inputs(self) -> tuple[str, ...]:
        """The inputs that it changes."""
        return tuple(name for name in (self.vary, self.raised, *(name for name, _ in self.given)) if name)


@dataclass(frozen=True, slots=True)
class Gate:
    """What a candidate must show before it may be released."""

    metric: str  # auc, log_loss, mae, rmse
    floors: tuple[tuple[str, float], ...] = ()  # (metric, worst value allowed)
    margin: float = 0.0  # required gain over the champion
    confidence: float = 0.8  # one-sided, by paired bootstrap on the same rows
    holdout: float = 0.15  # newest share of examples, never trained on
    max_ece: float | None = None
    max_p99_ms: float | None = None
    max_size_mb: float | None = None
    slices: tuple[str, ...] = ()  # inputs by whose values the metric is reported
    slice_rules: tuple[SliceRule, ...] = ()
    fairness: tuple[FairnessRule, ...] = ()
    robustness: Robustness = Robustness()
    behaviour: tuple[Behaviour, ...] = ()
