"""Pure statistics over numpy arrays: metrics, distances of distributions, anytime-valid bounds, calibrated alarms."""

from millrace.statistics import drift
from millrace.statistics.distances import (
    ChiSquare,
    chi_square,
    jensen_shannon,
    kolmogorov_smirnov,
    psi,
    total_variation,
)
from millrace.statistics.metrics import (
    HIGHER_IS_BETTER,
    METRICS,
    PairedBootstrap,
    auc,
    auc_interval,
    brier,
    ece,
    log_loss,
    log_losses,
    mae,
    mean_interval,
    paired_bootstrap,
    rmse,
)
from millrace.statistics.sequences import Band, confidence_sequence

__all__ = [
    "HIGHER_IS_BETTER",
    "METRICS",
    "Band",
    "ChiSquare",
    "PairedBootstrap",
    "auc",
    "auc_interval",
    "brier",
    "chi_square",
    "confidence_sequence",
    "drift",
    "ece",
    "jensen_shannon",
    "kolmogorov_smirnov",
    "log_loss",
    "log_losses",
    "mae",
    "mean_interval",
    "paired_bootstrap",
    "psi",
    "rmse",
    "total_variation",
]
