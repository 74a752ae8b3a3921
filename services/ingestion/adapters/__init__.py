"""Outbound: what the ports are made of."""
