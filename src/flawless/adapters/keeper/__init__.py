"""One tiny process per service that owns the child, its process group, its output and its log."""
