"""The response cache's parts: `keys` names a request, `table` remembers answers, `flight` asks once for many."""
