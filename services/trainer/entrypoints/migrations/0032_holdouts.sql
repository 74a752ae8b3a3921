-- First and last moment of the rows that a run's gate judged by; 0 before there was one.
ALTER TABLE runs ADD COLUMN holdout_from_us INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN holdout_to_us INTEGER NOT NULL DEFAULT 0;
