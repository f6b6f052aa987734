"""What Flawless asks of a PostgreSQL server, and what it makes of the answers."""
