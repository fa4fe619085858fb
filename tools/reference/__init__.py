"""Writes the pages and sections of the documentation that are generated from the code and from measured figures."""
