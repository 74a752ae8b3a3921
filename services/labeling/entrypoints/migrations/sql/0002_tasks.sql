CREATE TABLE tasks (
  task_id TEXT PRIMARY KEY,
  project TEXT NOT NULL,
  entity TEXT NOT NULL,
  moment_us INTEGER NOT NULL,
  payload BLOB NOT NULL,
  priority DOUBLE PRECISION NOT NULL,
  state TEXT NOT NULL,
  annotator TEXT NOT NULL DEFAULT '',
  lease_id TEXT NOT NULL DEFAULT '',
  lease_expires_us INTEGER NOT NULL DEFAULT 0,
  created_us INTEGER NOT NULL,
  value DOUBLE PRECISION,
  comment TEXT NOT NULL DEFAULT ''
);
CREATE INDEX tasks_queue ON tasks (project, priority DESC, created_us, task_id) WHERE state <> 'submitted';

-- Who has been given what: never twice.
CREATE TABLE given (
  task_id TEXT NOT NULL,
  annotator TEXT NOT NULL,
  given_us INTEGER NOT NULL,
  PRIMARY KEY (task_id, annotator)
);
