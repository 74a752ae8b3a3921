-- Whether a person takes the rows as they are, and which run's rows were the last good ones.
ALTER TABLE requests ADD COLUMN accept_data INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN accept_data INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN reference TEXT NOT NULL DEFAULT '';
