"""What runs inside the Jupyter server process: ``python -P -m jupyter_remote.server /path/server.json``.

One file per job. :mod:`.app` puts them together; :mod:`.upstream` names what we use of Jupyter and
tornado beyond their documented interfaces.
"""
