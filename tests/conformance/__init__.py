"""OTP's behaviour, row by row of the catalogue: the row's id is in each test's name.

`recorded/` holds what real Erlang and Elixir did. `python tests/conformance/coverage.py` tells which rows have a
test; `python tests/conformance/mutants.py` shows that the tests notice a wrong line.
"""
