"""The lab: frozen Debian and Ubuntu systems, scratch roots to build in, and booted boxes to test in.

``layers`` builds frozen root file systems once, ``scratch`` gives a throw-away chroot on one,
``box`` boots one with a real systemd. Everything lives under one cache directory that may be
deleted at any time.
"""
