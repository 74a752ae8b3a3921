-- Serialises writers of one project across replicas (PostgreSQL locks the row; SQLite has one writer anyway).
CREATE TABLE projects (
  project TEXT PRIMARY KEY,
  watermark_us INTEGER NOT NULL              -- everything visible at or before this has been applied
);

-- How far each partition of a data topic has come.
CREATE TABLE partitions (
  topic TEXT NOT NULL,
  part INTEGER NOT NULL,
  project TEXT NOT NULL,
  closed_us INTEGER NOT NULL,                -- no record visible at or before this will come any more
  PRIMARY KEY (topic, part)
);

CREATE TABLE examples (
  project TEXT NOT NULL,
  entity TEXT NOT NULL,
  moment_us INTEGER NOT NULL,
  matured_us INTEGER NOT NULL,
  visible_us INTEGER NOT NULL,
  due_us INTEGER NOT NULL,
  event_id TEXT NOT NULL,
  revision INTEGER NOT NULL DEFAULT -1,      -- -1: not matured; else the last one published, with what it said
  outcome TEXT NOT NULL DEFAULT '',
  origin TEXT NOT NULL DEFAULT '',
  value DOUBLE PRECISION NOT NULL DEFAULT 0,
  label_visible_us INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (project, entity, moment_us)
);
CREATE INDEX examples_due ON examples (project, due_us) WHERE revision < 0;

CREATE TABLE truths (
  project TEXT NOT NULL,
  entity TEXT NOT NULL,
  event_id TEXT NOT NULL,
  event_us INTEGER NOT NULL,
  visible_us INTEGER NOT NULL,
  value DOUBLE PRECISION,                    -- null: unknowable
  origin TEXT NOT NULL,
  moment_us INTEGER,                         -- null: about every example of the entity since
  PRIMARY KEY (project, entity, event_id)
);
CREATE INDEX truths_visible ON truths (project, visible_us);

-- How far the label history has come, per partition of topic `labels`.
CREATE TABLE history (
  project TEXT NOT NULL,
  part INTEGER NOT NULL,
  visible_us INTEGER NOT NULL,
  PRIMARY KEY (project, part)
);
