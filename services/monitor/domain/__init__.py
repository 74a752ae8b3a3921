"""Pure rules of the monitor: values in, verdicts out. No I/O, no clock, no randomness; `now` is an argument."""
