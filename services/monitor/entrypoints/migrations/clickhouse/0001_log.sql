-- Every scored row, by the id that inference gave it: a repeat replaces itself at merge (read with FINAL).
-- numbers: NaN is a null; texts: '' is a null. output is NaN for a failed request.
CREATE TABLE IF NOT EXISTS predictions (
  project LowCardinality(String), model LowCardinality(String), version Int64, moment_us Int64, entity String,
  prediction_id String, request_id String, role LowCardinality(String), answered UInt8, error String,
  output Float64, numbers Map(LowCardinality(String), Float64), texts Map(LowCardinality(String), String),
  answered_us Int64, latency_us Int64, epoch Int64, as_of_us Int64, door LowCardinality(String), event_id String
) ENGINE = ReplacingMergeTree ORDER BY (project, model, version, moment_us, prediction_id);

-- Every revision of every label; the newest one known at a cutoff counts. value is NaN when censored.
CREATE TABLE IF NOT EXISTS labels (
  project LowCardinality(String), moment_us Int64, entity String, revision Int32,
  outcome LowCardinality(String), value Float64, origin LowCardinality(String), confidence Float64,
  event_us Int64, visible_us Int64, matured_us Int64, event_id String
) ENGINE = ReplacingMergeTree ORDER BY (project, moment_us, entity, revision);

-- The index of platform events; `place` is topic:partition:offset.
CREATE TABLE IF NOT EXISTS platform_events (
  event_id String, event_type LowCardinality(String), topic LowCardinality(String), source LowCardinality(String),
  subject String, project LowCardinality(String), time_us Int64, clock_us Int64, causation_id String, actor String,
  summary String, model LowCardinality(String), version Int64, other_version Int64, kind LowCardinality(String),
  run_id String, snapshot_digest String, evidence String, place String, received_us Int64, payload String
) ENGINE = ReplacingMergeTree ORDER BY event_id;
