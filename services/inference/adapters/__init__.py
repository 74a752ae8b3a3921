"""Outbound: what the ports of this room are made of."""
