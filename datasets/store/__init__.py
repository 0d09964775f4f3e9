"""Prepared nights on disk: filters, the build, views, batches, fold tables, splits by subject."""
