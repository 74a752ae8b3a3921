-- Snapshots that were rewritten because an entity was forgotten; '' as superseded_by: nothing was left of it.
CREATE TABLE superseded_snapshots (
  digest TEXT PRIMARY KEY, superseded_by TEXT NOT NULL, request TEXT NOT NULL, heard_us INTEGER NOT NULL);
