"""The board's backend: projects, tasks and comments on PostgreSQL, as JSON."""
