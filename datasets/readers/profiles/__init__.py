"""Cohorts that a JSON profile declares: the schema, discovery of nights, and how one is read."""
