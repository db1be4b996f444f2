"""The `embedded` model: a small in-context learner that needs no network and no weights."""
