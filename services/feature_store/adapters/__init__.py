"""Outbound: Redis, ClickHouse, labeling, the process pool."""
