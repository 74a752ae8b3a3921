"""Release state of models: pure values and decisions. Nothing here reads a clock, a store or a topic."""
