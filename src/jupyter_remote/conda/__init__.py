"""``jupyter-remote conda``: a conda for the owner, and what is pinned about it. Runs as the owner, never as root."""
