"""Scripts that print ratios and fits; never part of the tests' timing."""
