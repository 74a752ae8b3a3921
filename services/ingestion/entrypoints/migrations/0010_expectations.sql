-- Fingerprints (keyed digests) of the values seen in fields that others refer to.
CREATE TABLE reference_values (
  project TEXT NOT NULL, source TEXT NOT NULL, field TEXT NOT NULL, value INTEGER NOT NULL,
  PRIMARY KEY (project, source, field, value));

-- Whose fingerprints hold the source's whole past.
CREATE TABLE reference_books (
  project TEXT NOT NULL, source TEXT NOT NULL, field TEXT NOT NULL, is_whole INTEGER NOT NULL,
  PRIMARY KEY (project, source, field));

-- The days of the data docs.
CREATE TABLE day_profiles (
  project TEXT NOT NULL, source TEXT NOT NULL, start_us INTEGER NOT NULL, events INTEGER NOT NULL,
  quarantined INTEGER NOT NULL, null_share DOUBLE PRECISION NOT NULL, broken INTEGER NOT NULL, state TEXT NOT NULL,
  PRIMARY KEY (project, source, start_us));
