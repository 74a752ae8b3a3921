"""Millrace's library: wire contracts, bus, stores, runtime, clients and the pure kernel."""

__version__ = "0.1.0"
