"""Clients of the stores that a room owns: SQL, objects, ClickHouse, Redis.

Import from the modules: `sql`, `objects`, `clickhouse`, `redis`.
"""
