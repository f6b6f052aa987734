"""The interfaces of others: does each accept its key? Reading requests only."""
