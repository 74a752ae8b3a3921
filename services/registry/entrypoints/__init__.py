"""Inbound: topics, gRPC, pages."""
