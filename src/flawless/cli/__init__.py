"""Speaks to a person: one verb a file; the only place where an error becomes an exit code."""
