CREATE TABLE project_clocks (
  project TEXT PRIMARY KEY, now_us INTEGER NOT NULL, lease_id TEXT NOT NULL, holder TEXT NOT NULL, expires_us INTEGER NOT NULL);

-- The open window of each source, so that a restart in the middle of one still gives its whole account.
CREATE TABLE windows (project TEXT NOT NULL, source TEXT NOT NULL, state TEXT NOT NULL, PRIMARY KEY (project, source));

CREATE TABLE secrets (name TEXT PRIMARY KEY, value TEXT NOT NULL);
