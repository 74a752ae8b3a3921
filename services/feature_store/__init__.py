"""Feature store: features as known now, and as known at any moment before."""
