"""Ways out: SQL state, label history in ClickHouse."""
