"""Alembic's folder for our own tables."""
