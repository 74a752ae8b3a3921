"""The registry: definitions, model versions, release state, artifacts. It alone moves release state."""
