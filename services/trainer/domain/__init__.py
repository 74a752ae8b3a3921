"""The trainer's rules and values: no I/O, no clock, no randomness but seeded."""
