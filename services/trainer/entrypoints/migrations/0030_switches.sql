-- Kill switches that are off, by project ('*': all projects).
CREATE TABLE switches (
  project TEXT PRIMARY KEY, reason TEXT NOT NULL, actor TEXT NOT NULL, switched_us INTEGER NOT NULL);
-- When training was last switched on, by the project's clock: what waited for it shares a run of then.
ALTER TABLE marks ADD COLUMN resumed_us INTEGER NOT NULL DEFAULT 0;
-- How many attempts of a run were ended by a switch.
ALTER TABLE runs ADD COLUMN put_back INTEGER NOT NULL DEFAULT 0;
