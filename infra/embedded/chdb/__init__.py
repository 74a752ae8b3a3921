"""ClickHouse's HTTP interface over chDB, the real engine in a wheel: `python -m infra.embedded.chdb`."""
