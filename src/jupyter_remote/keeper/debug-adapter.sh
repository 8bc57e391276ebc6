#!/bin/sh
# What debugpy starts in place of Python for its adapter; ipykernel_debugger.py, beside this, says why.
exec "$JUPYTER_REMOTE_DEBUGGER_PYTHON" "${0%/*}/ipykernel_debugger.py" "$@"
