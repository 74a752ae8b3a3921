-- Every event that asked for training, and what became of it (run_id: the run or the declined run; '' while it waits).
CREATE TABLE requests (
  request_id TEXT PRIMARY KEY, project TEXT NOT NULL, kind TEXT NOT NULL, asked_us INTEGER NOT NULL,
  reason TEXT NOT NULL, target_run_id TEXT NOT NULL, actor TEXT NOT NULL, run_id TEXT NOT NULL);
CREATE INDEX requests_by_run ON requests (run_id);
CREATE INDEX requests_pending ON requests (project, run_id);

CREATE TABLE runs (
  run_id TEXT PRIMARY KEY, project TEXT NOT NULL, mode TEXT NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL,
  as_of_us INTEGER NOT NULL, asked_us INTEGER NOT NULL, cause_id TEXT NOT NULL, attempt INTEGER NOT NULL, turn INTEGER NOT NULL,
  queued_us INTEGER NOT NULL, started_us INTEGER NOT NULL, finished_us INTEGER NOT NULL,
  definition_version INTEGER NOT NULL, definition_json TEXT NOT NULL, snapshot_digest TEXT NOT NULL, candidate TEXT NOT NULL,
  report_json TEXT NOT NULL, progress DOUBLE PRECISION NOT NULL, curve TEXT NOT NULL);
CREATE INDEX runs_by_project ON runs (project, as_of_us);
CREATE INDEX runs_by_state ON runs (state);

-- New labels by the minute at which they began to count.
CREATE TABLE label_counts (
  project TEXT NOT NULL, end_us INTEGER NOT NULL, labels INTEGER NOT NULL, event_id TEXT NOT NULL,
  PRIMARY KEY (project, end_us));

-- Up to when labels are known, per partition of the topic.
CREATE TABLE label_clocks (
  project TEXT NOT NULL, part INTEGER NOT NULL, visible_us INTEGER NOT NULL, PRIMARY KEY (project, part));

-- How far each trigger of a project has asked.
CREATE TABLE marks (
  project TEXT PRIMARY KEY, consumed_us INTEGER NOT NULL, schedule_us INTEGER NOT NULL);
