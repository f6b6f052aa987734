"""Which failures open, extend and resolve an incident, and where incidents are kept: an outbox, then PostgreSQL."""

from flawless.incidents.book import IncidentBook

__all__ = ["IncidentBook"]
