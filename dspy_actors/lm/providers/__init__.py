"""Providers: `base` says what one is, `table` names them all, each other file is one dialect."""
