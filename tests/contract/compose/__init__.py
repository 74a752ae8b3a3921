"""docker-compose.yml and what hangs on it."""
