"""What is put into the pages of JupyterLab and Notebook."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from pathlib import Path

import notebook
from running import Running

from jupyter_remote.server import opening
from jupyter_remote.server.config import LABEXTENSIONS

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


def test_what_a_page_asks_for_comes_first_then_its_scripts_by_webpacks_address():
    page = opening.opened_early(PAGE, ["one.0123abcd.js"], ["api/me"])
    link = '<link rel="preload" as="script" href="{{page_config.fullStaticUrl}}/one.0123abcd.js?v=0123abcd">'
    head = page.partition('<meta charset="utf-8">')[2].partition("</head>")[0]
    assert re.match(r"<script>.*</script>" + re.escape(link), head, re.DOTALL)
    assert '(["{{ base_url }}api/me"]);' in head
    assert re.search(r'<body class="x"><div id="jupyter-remote-opening".*</style><p>here', page, re.DOTALL)


def test_comments_of_the_script_are_not_sent():
    assert not re.search(r"^ *//", opening.opened_early(PAGE, [], []), re.MULTILINE)


def test_other_pages_are_left_as_they_are():
    other = "<html><body>An error</body></html>"
    assert opening.opened_early(other, ["a.b.js"], ["api/me"]) == other


def test_the_address_of_our_extension_changes_with_it():
    place = LABEXTENSIONS / "jupyter-remote"
    load = json.loads((place / "package.json").read_text())["jupyterlab"]["_build"]["load"]
    digest = hashlib.sha256((place / "kernels.js").read_bytes()).hexdigest()[:16]
    assert load == f"kernels.js?v={digest}", "browsers keep what they have under this address for ever"


def test_notebook_waits_for_the_owners_style_sheet_only_where_there_is_one(shared: Running):
    style = shared.home / ".jupyter/custom/custom.css"
    with shared.owner() as owner:
        assert "custom.css" not in owner.get("tree").text
        style.parent.mkdir(parents=True)
        style.touch()
        try:
            assert "custom.css" in owner.get("tree").text
        finally:
            style.unlink()


def test_all_settings_at_once_are_what_each_by_itself_is(shared: Running):
    with shared.owner() as owner:
        everything = owner.get("lab/api/settings").json()["settings"]
        assert len(everything) > 50
        for one in everything:
            alone = owner.get(f"lab/api/settings/{one['id']}").json()
            assert {key: one[key] for key in alone} == alone
        names = owner.get("lab/api/settings?ids_only=true").json()["settings"]
        assert names == [{"id": one["id"]} for one in everything]


def test_what_a_browser_still_has_is_not_sent_again(shared: Running):
    with shared.owner() as owner:
        for place in opening.ANSWERS:
            answer = owner.get(place)
            assert answer.status_code == 200, place
            again = owner.get(place, headers={"If-None-Match": answer.headers["Etag"]})
            assert again.status_code == 304 or place == "api/contents?content=1&hash=0", place


def test_what_is_not_there_is_said_on_a_page(shared: Running):
    with shared.owner() as owner:
        for path in ("nothing/here", "tree/nothing", "static/nothing"):
            answer = owner.get(path)
            assert answer.status_code == 404, path
            assert "404 : Not Found" in answer.text, path


def test_the_servers_pages_open_early(shared: Running):
    with shared.owner() as owner:
        for path, name in (("lab", "lab/index.html"), ("tree", "notebook/tree.html")):
            text = owner.get(path).text
            place = f"/jupyter/static/{name.partition('/')[0]}/"
            named = re.findall(rf'rel="preload" as="script" href="{place}([^"?]+)\?v=', text)
            assert named == opening.SCRIPTS[name]
            assert "/lab/extensions/jupyter-remote/kernels.js" in text.partition("</head>")[0]


def test_the_login_page_fetches_the_scripts_of_the_page_that_was_asked_for(shared: Running):
    with shared.visitor() as visitor:
        for path, template in (("lab", "lab/index.html"), ("tree", "notebook/tree.html"), ("", "lab/index.html")):
            page = visitor.get("login", params={"next": f"/jupyter/{path}"}).text
            ahead = re.findall(r'rel="prefetch" as="script" href="/jupyter/static/(\w+)/([^"?]+)\?v=(\w+)"', page)
            assert [script for _, script, _ in ahead[1:]] == opening.SCRIPTS[template]
            for name, script, version in ahead:
                assert name == template.partition("/")[0]
                assert (STATIC[name] / script).is_file()
                assert script.split(".")[-2] == version
