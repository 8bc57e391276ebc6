"""``jupyter-remote doctor``: looks at everything between a browser and a kernel, from outside in, and says what is
wrong, why that matters, and what mends it.

One function for each question, in the order in which an answer makes sense: a server that does not run needs no
visit. A function yields what it has found; what can be found is declared beside it, so that the documentation lists
the same.
"""
