"""Jupyter configuration files that everything else overrules, the owner's ``~/.jupyter`` included.

They suit a machine that is used from afar: no button that stops a server which systemd starts again at
once, nothing asked of, or told to, machines elsewhere, and pings for websockets of which Jupyter would not notice that
their browser has vanished (those for events).
"""
