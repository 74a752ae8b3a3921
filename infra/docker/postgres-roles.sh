#!/bin/sh
# One role per room; each makes and owns the schema of its own name, and nobody else can read it.
set -eu
for room in ingestion labeling feature_store trainer registry inference monitor; do
  psql -v ON_ERROR_STOP=1 -v room="$room" -v secret="$ROOM_PASSWORD" -U "$POSTGRES_USER" -d "$POSTGRES_DB" <<'SQL'
SELECT format('CREATE ROLE %I LOGIN PASSWORD %L', :'room', :'secret')
 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'room') \gexec
SELECT format('GRANT CONNECT, CREATE ON DATABASE %I TO %I', current_database(), :'room') \gexec
SQL
done
