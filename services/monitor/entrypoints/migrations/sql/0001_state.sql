-- What the monitor must remember to come to the same decisions after a restart. Times: microseconds, project's clock.
CREATE TABLE heartbeats (
  project TEXT NOT NULL, part INTEGER NOT NULL, visible_us INTEGER NOT NULL, PRIMARY KEY (project, part));

CREATE TABLE decided (project TEXT PRIMARY KEY, until_us INTEGER NOT NULL);

CREATE TABLE plans (
  project TEXT NOT NULL, model TEXT NOT NULL, epoch INTEGER NOT NULL, variants TEXT NOT NULL,
  event_id TEXT NOT NULL, received_us INTEGER NOT NULL, PRIMARY KEY (project, model));

CREATE TABLE changes (
  event_id TEXT PRIMARY KEY, project TEXT NOT NULL, model TEXT NOT NULL, version INTEGER NOT NULL,
  to_state TEXT NOT NULL, kind TEXT NOT NULL, clock_us INTEGER NOT NULL, epoch INTEGER NOT NULL,
  other_version INTEGER NOT NULL);
CREATE INDEX changes_model ON changes (project, model, epoch);

CREATE TABLE alerts (
  alert_key TEXT PRIMARY KEY, project TEXT NOT NULL, rule TEXT NOT NULL, subject TEXT NOT NULL, incident TEXT NOT NULL,
  state TEXT NOT NULL, severity TEXT NOT NULL, action TEXT NOT NULL, reason TEXT NOT NULL,
  statistic DOUBLE PRECISION NOT NULL, threshold DOUBLE PRECISION NOT NULL, observations INTEGER NOT NULL,
  since_us INTEGER NOT NULL, updated_us INTEGER NOT NULL, beyond INTEGER NOT NULL, quiet INTEGER NOT NULL,
  event_id TEXT NOT NULL, cause_id TEXT NOT NULL, evidence_query TEXT NOT NULL, evidence_ids TEXT NOT NULL);
CREATE INDEX alerts_subject ON alerts (project, rule, subject, since_us);

-- One row per command that was ever asked for: at most one per (model, version, incident, verb).
CREATE TABLE asked (ask_key TEXT PRIMARY KEY, project TEXT NOT NULL, event_id TEXT NOT NULL, clock_us INTEGER NOT NULL);

CREATE TABLE windows (
  project TEXT NOT NULL, source TEXT NOT NULL, start_us INTEGER NOT NULL, end_us INTEGER NOT NULL,
  events INTEGER NOT NULL, quarantined INTEGER NOT NULL, body TEXT NOT NULL, event_id TEXT NOT NULL,
  judged INTEGER NOT NULL, broken INTEGER NOT NULL, PRIMARY KEY (project, source, start_us));

CREATE TABLE scores (
  project TEXT NOT NULL, reference TEXT NOT NULL, subject TEXT NOT NULL, start_us INTEGER NOT NULL,
  value DOUBLE PRECISION, scored_rows INTEGER NOT NULL, threshold DOUBLE PRECISION, beyond INTEGER NOT NULL,
  PRIMARY KEY (project, reference, subject, start_us));

CREATE TABLE reports (
  project TEXT NOT NULL, model TEXT NOT NULL, version INTEGER NOT NULL, start_us INTEGER NOT NULL,
  end_us INTEGER NOT NULL, file TEXT NOT NULL, drifted INTEGER NOT NULL, columns INTEGER NOT NULL,
  PRIMARY KEY (project, model, start_us));
