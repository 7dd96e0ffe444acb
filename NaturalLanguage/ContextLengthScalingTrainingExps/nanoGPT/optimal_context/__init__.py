"""The law of loss against length (of context) and training size, used for tokens, bits and samples alike.

table.py reads tables, readings.py those of either reading or both; pairing.py compares lengths by seed where seeds vary
together, as parts of the corpus do; law.py has the candidate laws, window_mean.py the mean of one over a window;
solver.py fits them; bootstrap.py resamples; lack_of_fit.py tests what a law leaves of a table; selection.py compares
laws on held-out sizes; optima.py puts the optimum's interval together; analysis.py says all that is known and whether
it can be trusted; report.py prints it; tables.py makes tables of it; drawing.py draws it; recovery.py and coverage.py
measure how often the intervals hold the truth.
pilot.py chooses the small runs to make of a corpus in given hours; advice.py says what came of them in five lines.
"""
