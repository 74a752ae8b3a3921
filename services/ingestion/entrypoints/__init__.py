"""Inbound: gRPC, HTTP, files, and the topic that producers write to directly."""
