-- Which table holds the history of a source under which contract; the newest is the one in use.
CREATE TABLE IF NOT EXISTS history_tables
(
    name       String,
    project    String,
    source     String,
    fields     Array(String),
    created_us Int64
)
ENGINE = ReplacingMergeTree
ORDER BY name;
