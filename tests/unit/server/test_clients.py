"""Clients that nobody here wrote, with a token."""

from __future__ import annotations

import threading
import time

from jupyter_kernel_client import JupyterKernelClient
from jupyter_kernel_client.manager import KernelHttpManager
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook
from running import Running

from jupyter_remote.passes import TOKEN, Pass, Passes, digest_of, new_secret
from tests.client import wait_until


def begin(server: Running) -> dict[str, str]:
    """Start it; where a program finds it, and what lets it in."""
    port = server.listen_on_port()
    server.keep_kernels().start().wait_until_ready()
    token = new_secret(TOKEN)
    Passes(server.state / "tokens").add(Pass(digest_of(token), time.time(), name="script"))
    return {"server_url": f"http://127.0.0.1:{port}/jupyter", "token": token}


def test_jupyter_kernel_client_works_through_a_restart_of_the_server(server: Running):
    there = begin(server)
    with JupyterKernelClient(**there) as kernel:
        assert kernel.execute("x = 41")["status"] == "ok"
        server.restart()
        (output,) = kernel.execute("x + 1")["outputs"]
        assert output["data"]["text/plain"] == "42"

        done: list[dict] = []
        sleeping = threading.Thread(target=lambda: done.append(kernel.execute("import time\ntime.sleep(600)")))
        sleeping.start()
        wait_until(lambda: kernel._manager.refresh_model()["execution_state"] == "busy", "it does not begin")
        kernel.interrupt()
        sleeping.join(60)
        assert done[0]["status"] == "error"
        assert done[0]["outputs"][0]["ename"] == "KeyboardInterrupt"

        kernel.restart()
        (output,) = kernel.execute("'x' in dir()")["outputs"]
        assert output["data"]["text/plain"] == "False"
        name = kernel.id
    assert name not in [one.name for one in (server.state / "kernels").iterdir()], "it was not ended"
    assert there["token"] not in server.log.read_text()


def test_nbclient_runs_a_notebook_with_a_kernel_of_ours(server: Running):
    manager = KernelHttpManager(**begin(server))
    manager.start_kernel(name="python3")
    manager.client.start_channels()
    notebook = new_notebook(cells=[new_code_cell("import os\nhome = os.environ['HOME']"), new_code_cell("print(home)")])
    client = NotebookClient(notebook, km=manager)
    client.kc = manager.client
    try:
        client.execute()
    finally:
        manager.client.stop_channels()
        manager.shutdown_kernel(now=True)
    assert notebook.cells[1].outputs[0].text == f"{server.home}\n"
