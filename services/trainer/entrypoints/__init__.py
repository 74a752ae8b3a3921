"""Inbound: what reaches the trainer."""
