"""The tests; a package, so that `tests.server` is found before any other distribution's `tests`."""
