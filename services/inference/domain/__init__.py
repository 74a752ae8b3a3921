"""Pure rules of serving: plans, routing, columns, bundles, spool frames. No I/O, no clock, no randomness."""
