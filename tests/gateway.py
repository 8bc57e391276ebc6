"""A machine with a Jupyter Kernel Gateway, as somebody else would have set it up: https, a token, their kernel."""

from __future__ import annotations

import shutil
import sysconfig
from pathlib import Path

from lab.box import Box

from tests.pages import blocks, reader

(ANNOUNCE,) = blocks("docs/gateway.md")

TOKEN = "s3cret-of-the-gateway"
NAME = "gateway.test"
PORT = 9443

UNIT = f"""
[Service]
User=bob
Environment=PYTHONPATH=/opt/gateway JUPYTER_PATH=/opt/gateway/share HOME=/home/bob KG_AUTH_TOKEN={TOKEN}
ExecStart=/usr/lib/jupyter-remote/bin/python -m kernel_gateway --KernelGatewayApp.ip=0.0.0.0 \\
    --KernelGatewayApp.port={PORT} --KernelGatewayApp.certfile=/opt/gateway/ca.pem \\
    --KernelGatewayApp.keyfile=/opt/gateway/key.pem --JupyterWebsocketPersonality.list_kernels=True
"""


def serve(box: Box) -> str:
    """Have *box* be one; the certificate to trust, PEM.

    The gateway is the tests' own copy, which runs on the Jupyter that is there; its kernel is one of bob's.
    """
    there = Path(sysconfig.get_paths()["purelib"])
    for name in ("kernel_gateway", next(there.glob("jupyter_kernel_gateway-*.dist-info")).name):
        shutil.copytree(there / name, box.path("/opt/gateway") / name)
    box.sh("chmod -R a+rX /opt/gateway && cp -a /var/lib/jupyter-remote/users/alice/python3* /home/bob/kernel")
    box.sh("chown -R bob: /home/bob/kernel && mkdir -p /opt/gateway/share/kernels/python3")
    box.write(
        "/opt/gateway/share/kernels/python3/kernel.json",
        '{"argv": ["/home/bob/kernel/bin/python3", "-m", "ipykernel_launcher", "-f", "{connection_file}"],'
        ' "display_name": "Python 3", "language": "python"}',
    )
    box.sh(
        "cd /opt/gateway && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
        f" -keyout key.pem -out ca.pem -subj /CN={NAME} -addext subjectAltName=DNS:{NAME} 2>&1 && chown bob key.pem"
    )
    box.write("/etc/systemd/system/gateway.service", UNIT)
    box.sh("systemctl daemon-reload && systemctl start gateway")
    box.sh(f"until curl -sk -o /dev/null https://localhost:{PORT}/api; do sleep 0.2; done", timeout=60)
    return box.read("/opt/gateway/ca.pem")


def announce(box: Box, gateway: Box, certificate: str) -> None:
    """Tell the Jupyter in *box* of it, as its owner is told to."""
    box.sh(f"echo {gateway.ip} {NAME} >>/etc/hosts")
    box.write("/etc/jupyter-remote/gateway.pem", certificate)
    box.sh("jupyter-remote config set gateway.ca_file /etc/jupyter-remote/gateway.pem")
    typed = ANNOUNCE.filled({"gateway.example.org:8888": f"{NAME}:{PORT}"})
    reader(box).sh(f"set -e\n{typed}", input=f"{TOKEN}\n")
