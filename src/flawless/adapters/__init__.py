"""The edges: processes, databases, tools and files of the world outside."""
