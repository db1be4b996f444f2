"""Long random trials, each with a short version in the suite.

| `python -m tests.chaos.NAME` | what it does |
|---|---|
| `actors` | kills twelve named actors of every kind in every way while they call each other |
| `trees` | does the same while their supervisors are killed too |
| `lm_layer` | kills workers, guards and io loops at random under 200 calls at once |
| `mutants` | breaks one line of the LM layer at a time and sees that `lm_layer` or the tests notice |
"""
