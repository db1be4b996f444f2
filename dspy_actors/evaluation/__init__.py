"""Running a program over many rows: evaluation actors, outcomes, scores."""
