-- Online reads that were sampled, one row per entity. `features`, `cells` and `standings` are JSON.
CREATE TABLE IF NOT EXISTS sampled_reads
(
    id                 String,
    project            String,
    definition_version Int64,
    entity             String,
    logged_us          Int64,
    features           String,
    cells              String,
    standings          String
)
ENGINE = ReplacingMergeTree
ORDER BY (logged_us, id)
TTL toDateTime(intDiv(logged_us, 1000000)) + INTERVAL 14 DAY;
-- What came of them: one value per feature in each array; `details` is JSON, empty where nothing differed.
CREATE TABLE IF NOT EXISTS checked_reads
(
    id                 String,
    project            String,
    definition_version Int64,
    entity             String,
    logged_us          Int64,
    skipped            String,
    features           Array(String),
    as_of_us           Array(Int64),
    outcomes           Array(Int64),
    differences        Array(Float64),
    details            Array(String)
)
ENGINE = ReplacingMergeTree
ORDER BY (project, logged_us, id)
TTL toDateTime(intDiv(logged_us, 1000000)) + INTERVAL 14 DAY;
