"""What runs beside each kernel: it starts the kernel, keeps what it says, and talks to the browser.

It must outlive the server and the package's upgrade, so it uses the standard library and pyzmq only,
imports nothing of ours but its own modules, and imports nothing after its start. And there is one for each
kernel: modules that cost memory (dataclasses, pathlib, subprocess, asyncio) are done without.

:mod:`.hangup` is no part of that; it is here since it talks to keepers, and starts as quickly as they do.
"""
