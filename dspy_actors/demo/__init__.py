"""The demo: a data set that ships with the package, and the job that is run on it."""
