"""Ingestion: the door for data events."""
