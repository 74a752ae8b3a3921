-- The keys of encrypted fields, one per entity, each wrapped by its project's key. `entity` is its digest under that key.
CREATE TABLE entity_keys (
  project TEXT NOT NULL, entity TEXT NOT NULL, wrapped BLOB NOT NULL, PRIMARY KEY (project, entity));

-- Requests to forget. `request` is what the topic `data.forget` last said of it; from phase DONE on it names nobody.
CREATE TABLE forgets (
  id TEXT PRIMARY KEY, project TEXT NOT NULL, entity_digest TEXT NOT NULL, fields TEXT NOT NULL, reason TEXT NOT NULL,
  actor TEXT NOT NULL, asked_us INTEGER NOT NULL, done_us INTEGER NOT NULL, phase INTEGER NOT NULL,
  published INTEGER NOT NULL, request BLOB NOT NULL, seq INTEGER NOT NULL, proof TEXT NOT NULL, signature TEXT NOT NULL);

-- The last answer of each replica of each room to each phase.
CREATE TABLE forget_receipts (
  id TEXT NOT NULL, room TEXT NOT NULL, replica TEXT NOT NULL, phase INTEGER NOT NULL, receipt BLOB NOT NULL,
  PRIMARY KEY (id, room, replica, phase));

-- Who saw encrypted values in the clear.
CREATE TABLE reveals (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, project TEXT NOT NULL, source TEXT NOT NULL, entity_digest TEXT NOT NULL,
  fields TEXT NOT NULL, reason TEXT NOT NULL, actor TEXT NOT NULL, revealed_us INTEGER NOT NULL);
