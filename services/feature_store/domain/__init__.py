"""Rules of the feature store: pure, vectorised, the same for what is online and what is history."""
