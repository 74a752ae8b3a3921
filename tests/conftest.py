"""Fixtures for every test, and the keeping of proofs."""

from tests.support.proofs import proof_figures, pytest_configure
from tests.support.stack import stack

__all__ = ["proof_figures", "pytest_configure", "stack"]
