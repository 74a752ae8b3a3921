"""Inbound: two consumer groups and the gRPC service."""
