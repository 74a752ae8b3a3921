-- Every revision of every label; a repeat of one has the same key and is folded away when read with FINAL.
CREATE TABLE IF NOT EXISTS labels (
  project LowCardinality(String),
  entity String,
  moment_us Int64,
  revision Int32,
  outcome LowCardinality(String),
  origin LowCardinality(String),
  value Float64,
  confidence Float64,
  event_us Int64,
  visible_us Int64,
  matured_us Int64,
  event_id String
) ENGINE = ReplacingMergeTree
ORDER BY (project, moment_us, entity, revision);
