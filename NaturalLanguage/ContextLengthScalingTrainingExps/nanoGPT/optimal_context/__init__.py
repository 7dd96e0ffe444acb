"""The law of loss against context length and training size.

table.py reads tables; law.py has the candidate laws; solver.py fits them; bootstrap.py resamples; lack_of_fit.py tests
what a law leaves; selection.py compares laws on held-out sizes; analysis.py says what is known of the optimum, and
whether it can be trusted; report.py prints it; drawing.py draws it; recovery.py and coverage.py check the intervals.
"""
