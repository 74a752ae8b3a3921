-- Every object of the object store, noted before it is written, so that none that holds an entity is overlooked.
-- manifest: '' for a chunk of rows; superseded_by: the manifest that took its place, '' when nothing was left of it.
CREATE TABLE IF NOT EXISTS snapshot_objects
(
    digest        String,
    project       String,
    manifest      String,
    superseded    UInt8,
    superseded_by String,
    version       Int64
)
ENGINE = ReplacingMergeTree(version)
ORDER BY digest;
