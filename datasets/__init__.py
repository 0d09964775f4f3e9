"""What goes in: readers of formats, cohorts as tables, stores of prepared nights, simulation."""
