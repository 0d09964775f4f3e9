"""Files as public cohorts have them: one module a cohort, its bytes from the formats' libraries."""
