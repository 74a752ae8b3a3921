"""The embedded stack: a real Kafka, a real Valkey and ClickHouse's engine as child processes of one command."""

from infra.embedded.errors import StackError
from infra.embedded.stack import Stack, StackAddresses

__all__ = ["Stack", "StackAddresses", "StackError"]
