-- Definitions: every accepted version of every project file.
CREATE TABLE definitions (
  project TEXT NOT NULL, version INTEGER NOT NULL, digest TEXT NOT NULL, canonical_json TEXT NOT NULL,
  yaml TEXT NOT NULL, actor TEXT NOT NULL, created_us INTEGER NOT NULL,
  PRIMARY KEY (project, version));

-- A model name belongs to one project for ever.
CREATE TABLE models (
  model TEXT PRIMARY KEY, project TEXT NOT NULL, champion INTEGER NOT NULL DEFAULT 0,
  challenger INTEGER NOT NULL DEFAULT 0, step INTEGER NOT NULL DEFAULT 0, weight DOUBLE PRECISION NOT NULL DEFAULT 0,
  fallback INTEGER NOT NULL DEFAULT 0, promoted_us INTEGER NOT NULL DEFAULT 0, rolled_back_us INTEGER,
  epoch INTEGER NOT NULL DEFAULT 0, plan BLOB);
CREATE INDEX models_by_project ON models (project);

CREATE TABLE versions (
  model TEXT NOT NULL REFERENCES models (model), version INTEGER NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL,
  championships INTEGER NOT NULL, broken INTEGER NOT NULL, run_id TEXT NOT NULL, model_digest TEXT NOT NULL,
  bundle_digest TEXT NOT NULL, gated_against INTEGER NOT NULL, gate_report_digest TEXT NOT NULL,
  snapshot_digest TEXT NOT NULL, definition_version INTEGER NOT NULL, passed INTEGER NOT NULL, clock_us INTEGER NOT NULL,
  metrics_json TEXT NOT NULL, actor TEXT NOT NULL, created_us INTEGER NOT NULL,
  PRIMARY KEY (model, version));
CREATE UNIQUE INDEX versions_by_run ON versions (model, run_id) WHERE run_id <> '';

-- At most one rollback per (version, incident).
CREATE TABLE incidents (
  model TEXT NOT NULL, version INTEGER NOT NULL, incident TEXT NOT NULL,
  PRIMARY KEY (model, version, incident));

-- What was told to the world about a version, for its lineage.
CREATE TABLE moves (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, event_id TEXT NOT NULL UNIQUE, model TEXT NOT NULL, version INTEGER NOT NULL,
  event BLOB NOT NULL);
CREATE INDEX moves_by_version ON moves (model, version, seq);

-- Commands by event id: a command that came by gRPC is on the topic too, and is not obeyed twice.
CREATE TABLE commands (
  event_id TEXT PRIMARY KEY, model TEXT NOT NULL, accepted INTEGER NOT NULL, reason TEXT NOT NULL,
  epoch INTEGER NOT NULL, reply_id TEXT NOT NULL, actor TEXT NOT NULL, handled_us INTEGER NOT NULL);

-- What each serving replica last said of each version.
CREATE TABLE replicas (
  model TEXT NOT NULL, replica TEXT NOT NULL, version INTEGER NOT NULL, epoch INTEGER NOT NULL, state TEXT NOT NULL,
  reason TEXT NOT NULL, reported_us INTEGER NOT NULL,
  PRIMARY KEY (model, replica, version));

CREATE TABLE artifacts (digest TEXT PRIMARY KEY, size_bytes INTEGER NOT NULL, stored_us INTEGER NOT NULL);
