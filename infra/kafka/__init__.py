"""Kafka's side of the platform: the table of topics, the jars of the embedded broker."""
