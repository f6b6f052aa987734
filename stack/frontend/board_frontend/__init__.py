"""The board's frontend: pages for people, and the one origin a browser speaks to."""
