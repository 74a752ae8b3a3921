"""Inbound: topics, gRPC, HTTP. Doors decode, call, encode."""
