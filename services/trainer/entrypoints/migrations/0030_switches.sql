-- Kill switches that are off, by project ('*': all projects).
CREATE TABLE switches (
  project TEXT PRIMARY KEY, reason TEXT NOT NULL, actor TEXT NOT NULL, switched_us INTEGER NOT NULL);
