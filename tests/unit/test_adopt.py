"""What is found of a Jupyter that was set up by hand, as far as that is a matter of texts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from jupyter_remote.adopt import asowner, blocks
from jupyter_remote.adopt.blocks import Block
from jupyter_remote.apache import Directive

SOURCES = Path(__file__).resolve().parents[2] / "src"

BEFORE = """\
# a file of Apache's
Listen 80

<Location "/jupyter">
    ProxyPass http://localhost:8888/jupyter
    ProxyPassReverse \\
        http://localhost:8888/jupyter
    Require ip 10.0.0.0/8
</Location>

ProxyPass /other http://localhost:88880/
<VirtualHost *:80>
    RewriteEngine on
    RewriteCond %{HTTP:Upgrade} websocket
    RewriteRule /jupyter/(.*) ws://127.0.0.1:8888/jupyter/$1 [P]
    ServerName shop.test
</VirtualHost>
"""
AFTER = """\
# a file of Apache's
Listen 80

ProxyPass /other http://localhost:88880/
<VirtualHost *:80>
    RewriteEngine on
    ServerName shop.test
</VirtualHost>
"""


def directives(file: Path) -> list[Directive]:
    """As Apache lists them. (That it does is proved in boxes.)"""
    lines = {
        2: ("Listen", "80"),
        4: ("Location", '"/jupyter"'),
        5: ("ProxyPass", "http://localhost:8888/jupyter"),
        7: ("ProxyPassReverse", "http://localhost:8888/jupyter"),
        8: ("Require", "ip 10.0.0.0/8"),
        11: ("ProxyPass", "/other http://localhost:88880/"),
        13: ("RewriteEngine", "on"),
        14: ("RewriteCond", "%{HTTP:Upgrade} websocket"),
        15: ("RewriteRule", "/jupyter/(.*) ws://127.0.0.1:8888/jupyter/$1 [P]"),
        16: ("ServerName", "shop.test"),
    }
    return [Directive(str(file), number, name, arguments, "") for number, (name, arguments) in lines.items()]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "apache2.conf").write_text(BEFORE)
    return (tmp_path / "apache2.conf").resolve()


def test_the_lines_that_lead_to_a_port_are_found_with_all_that_belongs_to_them(file: Path) -> None:
    found = blocks.find(directives(file), 8888)
    assert found == [Block(file, 4, 9, "/jupyter", guarded=True), Block(file, 14, 15)]
    assert blocks.public_path(found) == "/jupyter"
    assert blocks.find(directives(file), 9999) == []


def test_without_them_everything_else_stays_as_it_is(file: Path) -> None:
    assert blocks.without(BEFORE, blocks.find(directives(file), 8888)) == AFTER
    strange = "a\x0bb\u2028c\r\nd"
    assert blocks.without(strange, []) == strange
    assert blocks.without(strange, [Block(file, 2, 2)]) == "a\x0bb\u2028c\r\n"


def test_a_whole_site_is_told_from_a_part_of_one() -> None:
    here = Path("/x")
    assert blocks.public_path([Block(here, 1, 1, "/nb/api/kernels/"), Block(here, 2, 2, "/nb/")]) == "/nb"
    assert blocks.public_path([Block(here, 1, 1, "/")]) == "/"
    assert blocks.public_path([Block(here, 1, 1)]) == ""


def test_python_and_json_are_read_together(tmp_path: Path) -> None:
    python, json = tmp_path / "jupyter_notebook_config.py", tmp_path / "jupyter_notebook_config.json"
    python.write_text("c = get_config()\nc.NotebookApp.port = 8000 + 888\nc.NotebookApp.base_url = '/nb'\n")
    json.write_text('{"NotebookApp": {"password": "sha1:a:b", "port": 8889}}')
    said = asowner.read([python, json])
    assert said == {
        "config": {"NotebookApp": {"port": 8889, "base_url": "/nb", "password": "sha1:a:b"}},
        "problems": [],
    }


def test_what_cannot_be_run_any_more_hides_nothing_else(tmp_path: Path) -> None:
    old = tmp_path / "jupyter_notebook_config.py"
    old.write_text(
        "from notebook.auth.gone import passwd\nc.NotebookApp.password = passwd('x')\nc.NotebookApp.port = 1234\n"
        "raise SystemExit\nc.NotebookApp.base_url = '/nb'\n"
    )
    said = asowner.read([old])
    assert said["config"] == {"NotebookApp": {"port": 1234, "base_url": "/nb"}}
    assert [problem.split(": ")[0] for problem in said["problems"]] == [f"{old}:{line}" for line in (1, 2, 4)]


def test_the_words_of_python_2_are_passed_over(tmp_path: Path) -> None:
    old = tmp_path / "jupyter_notebook_config.py"
    old.write_text("print 'hello'\nc.NotebookApp.password = u'sha1:a:b'\n")
    said = asowner.read([old])
    assert said["config"] == {"NotebookApp": {"password": "sha1:a:b"}}
    assert len(said["problems"]) == 1


def test_what_a_configuration_prints_is_no_answer(tmp_path: Path) -> None:
    file = tmp_path / "jupyter_server_config.py"
    file.write_text(
        "import os\nos.system('echo {}')\nprint('{}')\nc.ServerApp.port = 1\n"
        "c.ServerApp.tornado_settings = {'x': print}\n"
    )
    words = [sys.executable, "-m", asowner.__name__, "config", file]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env={"PYTHONPATH": str(SOURCES)})
    assert done.stdout == '{"config": {"ServerApp": {"port": 1}}, "problems": []}'
