"""``jupyter-remote adopt``: takes over a Jupyter that somebody has set up by hand behind Apache, and gives it back.

What people copied in 2016 and since: a ``jupyter_notebook_config.py``, ``<Location>`` blocks in ``apache2.conf``, and
``jupyter notebook`` in tmux. :mod:`.asowner` and :mod:`.servers` find what is there, :mod:`.blocks` its lines in
Apache's files, :mod:`.plan` decides, and :mod:`.record` remembers what was there before.
"""
