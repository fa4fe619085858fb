"""The configuration of a run: its schema, and loading it."""
