"""A conda channel of the tests' own, an installer like Miniforge's, and a server that can be made to fail.

Conda's servers are not reached by tests. What stands for them is real where it matters: packages in
conda's format, a real solver and a real installation (py-rattler), real environments.
"""
