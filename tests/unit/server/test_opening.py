"""What is put into the pages of JupyterLab and Notebook."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import notebook
from running import Running

from jupyter_remote.server import opening

#: Where the versions that we have pinned keep their scripts.
STATIC = {
    "lab": Path(sys.prefix, "share/jupyter/lab/static"),
    "notebook": Path(notebook.__file__).parent / "static",
}
PAGE = (
    '<!doctype html><html><head><meta charset="utf-8"><script id="jupyter-config-data">{}</script></head>'
    '<body class="x"><p>here</p></body></html>'
)


def test_each_script_that_a_page_names_is_there():
    for page, scripts in opening.SCRIPTS.items():
        assert len(scripts) > 30
        for script in scripts:
            assert (STATIC[page.partition("/")[0]] / script).is_file(), "a new version? Run tools/startup-scripts"


def test_scripts_are_named_first_and_by_webpacks_address():
    page = opening.opened_early(PAGE, ["one.0123abcd.js"])
    link = '<link rel="preload" as="script" href="{{page_config.fullStaticUrl}}/one.0123abcd.js?v=0123abcd">'
    assert page.partition('<meta charset="utf-8">')[2].startswith(link)
    assert re.search(r'<body class="x"><div id="jupyter-remote-opening".*</style><p>here', page, re.DOTALL)


def test_other_pages_are_left_as_they_are():
    assert (
        opening.opened_early("<html><body>An error</body></html>", ["a.b.js"]) == "<html><body>An error</body></html>"
    )


def test_the_servers_pages_open_early(shared: Running):
    with shared.owner() as owner:
        for path, name in (("lab", "lab/index.html"), ("tree", "notebook/tree.html")):
            text = owner.get(path).text
            place = f"/jupyter/static/{name.partition('/')[0]}/"
            named = re.findall(rf'rel="preload" as="script" href="{place}([^"?]+)\?v=', text)
            assert named == opening.SCRIPTS[name]
            assert "/lab/extensions/jupyter-remote/kernels.js" in text.partition("</head>")[0]
