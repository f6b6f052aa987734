"""The use case deploy: bring the stack up, verified, or back to what was before."""
