"""What goes in: readers of formats, facts of cohorts, stores, simulation, signal quality."""
