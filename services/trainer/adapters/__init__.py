"""Outbound: what the trainer reaches for."""
