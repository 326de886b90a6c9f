"""Looks: whether a query may have rows, seen at once by numpy in the columns that it reads.

Nearly all that the rules ask of an image has no answer, and to have DuckDB plan and run the questions took a quarter of
a check. A look is named as the derived relation or the rule before whose query it stands. It may be wrong in one way
only: what it is not sure of, it says True of, and then the query is run. The queries are the truth; the tests hold the
looks against them.
"""
