"""The simple models that a net must beat, by scikit-learn, on the same encoding."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.linear_model import LogisticRegression, Ridge

from services.trainer.domain.encoding import EncodedRows

MAX_ITERATIONS = 200


def constant(fit: EncodedRows, rows: int) -> NDArray[np.float64]:
    """The mean label, whatever the input."""
    return np.full(rows, float(fit.target.mean()) if len(fit.target) else 0.0)


def linear(fit: EncodedRows, holdout: EncodedRows, code_sizes: list[int], *, binary: bool) -> NDArray[np.float64]:
    """Logistic regression, or ridge regression for numbers, on standardised numbers and one column per string code."""
    train, ask = _design(fit, code_sizes), _design(holdout, code_sizes)
    if not binary:
        return np.asarray(Ridge(alpha=1.0, solver="lsqr").fit(train, fit.target).predict(ask), dtype=np.float64)
    if len(np.unique(fit.target)) < 2:
        return constant(fit, len(holdout.target))
    model = LogisticRegression(C=1.0, max_iter=MAX_ITERATIONS, tol=1e-3).fit(train, fit.target)
    return np.asarray(model.predict_proba(ask)[:, 1], dtype=np.float64)


def _design(rows: EncodedRows, code_sizes: list[int]) -> sparse.csr_matrix:
    parts = [sparse.csr_matrix(rows.dense.astype(np.float64))]
    for place, size in enumerate(code_sizes):
        ones = np.ones(len(rows.codes))
        parts.append(sparse.csr_matrix((ones, (np.arange(len(ones)), rows.codes[:, place])), shape=(len(ones), size)))
    return sparse.hstack(parts, format="csr")
