"""Scripts of JupyterLab and Notebook come from Apache, compressed when the package was built."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import httpx
import pytest
from lab.box import Box, Person

from tests.client import Client, wait_until
from tests.installed import PASSWORD

MakeClient = Callable[..., Client]

WEB = "/usr/share/jupyter-remote/web"
STATIC = "https://localhost/jupyter/static"


def test_scripts_come_compressed_from_disk_and_are_kept_for_ever(box: Box, client: MakeClient):
    visitor = client(box).login(PASSWORD)
    for page in ("lab", "tree"):
        script = re.findall(r'/jupyter/(static/(?:lab|notebook)/main\.[^"?]+)', visitor.get(page).text)[0]
        answer = visitor.get(script, headers={"Accept-Encoding": "br"})
        assert answer.headers["content-encoding"] == "br"
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["vary"] == "Accept-Encoding"
        assert answer.headers["content-type"].startswith("text/javascript")
        assert "tornado" not in answer.headers["server"].lower()
        assert answer.num_bytes_downloaded == box.path(f"{WEB}/{script}.br").stat().st_size

    # what is no digest's name is asked for again each time, and costs nothing when it is still the same
    again = visitor.get("static/lab/style.js", headers={"Accept-Encoding": "br"})
    assert again.headers["cache-control"] == "no-cache"
    tag = {"If-None-Match": again.headers["etag"], "Accept-Encoding": "br"}
    assert visitor.get("static/lab/style.js", headers=tag).status_code == 304


@pytest.mark.one_release
def test_each_file_is_the_same_with_and_without_compression(box: Box):
    """All of them, as curl unpacks them, against what the server itself has on disk."""
    box.sh(f"""
        cd {WEB}/static
        find -L lab notebook -type f ! -name '*.br' -printf '%p\\n' | sort > /tmp/names
        for how in br identity; do
            mkdir /tmp/$how
            sed "s|.*|url = {STATIC}/&\\noutput = /tmp/$how/&|" /tmp/names > /tmp/$how.curl
            compressed=$([ $how = br ] && echo --compressed)
            curl -sSfk --create-dirs $compressed -H "Accept-Encoding: $how" --config /tmp/$how.curl
            diff -r --exclude='*.br' lab /tmp/$how/lab
            diff -r --exclude='*.br' notebook /tmp/$how/notebook
        done
        test $(wc -l < /tmp/names) -gt 500
    """)


def test_they_need_no_server_and_nothing_else_is_there(box: Box):
    def status(path: str) -> str:
        return box.sh(f"curl -sk --path-as-is -o /dev/null -w '%{{http_code}}' '{STATIC}{path}'")

    box.sh("systemctl stop jupyter-remote.socket jupyter-remote.service")
    assert status("/lab/style.js") == "200"
    for nothing in ("/lab/", "/lab", "/lab/none.js", "/notebook/../../x.js", "/lab/..%2f..%2fx", "/lab/style.js.br/"):
        assert status(nothing) in ("400", "403", "404", "503"), nothing
    for other in ("/../api/status", "/lab/../../lab/api/settings", "/lab/%2e%2e/%2e%2e/files/x"):
        assert status(other) == "503", f"{other} is the server's"


def test_answers_of_the_server_are_compressed_too(box: Box, client: MakeClient):
    visitor = client(box).login(PASSWORD)
    settings = visitor.get("lab/api/settings", headers={"Accept-Encoding": "gzip"})
    assert settings.headers["content-encoding"] == "gzip"
    assert settings.num_bytes_downloaded * 4 < len(settings.content)
    page = visitor.get("lab", headers={"Accept-Encoding": "gzip"})
    assert page.headers["content-encoding"] == "gzip"


@pytest.mark.one_release
def test_an_extension_of_the_owners_is_compressed_when_it_appears(box: Box, client: MakeClient, alice: Person):
    visitor = client(box).login(PASSWORD)
    place = "/home/alice/.local/share/jupyter/labextensions"
    name = "@demo/big/static/remoteEntry.0123456789abcdef0123.js"
    copies = "/var/lib/jupyter-remote/users/alice/compressed"
    words = "".join(f"export const n{i} = {i * i};\n" for i in range(20_000))

    def install(text: str) -> None:
        box.write(f"{place}/{name}", text)
        built = {"load": name.partition("big/")[2], "extension": "./extension"}
        about = {"name": "@demo/big", "version": "1.0.0", "jupyterlab": {"_build": built}}
        box.write(f"{place}/@demo/big/package.json", json.dumps(about))
        box.sh("chown -R alice: /home/alice/.local")

    def get(encoding: str) -> httpx.Response:
        return visitor.get(f"lab/extensions/{name}", headers={"Accept-Encoding": encoding})

    def is_compressed(answer: httpx.Response) -> bool:
        return answer.headers.get("content-encoding") == "br"

    install(words)
    assert get("identity").text == words
    wait_until(lambda: is_compressed(get("br")), "it is not compressed")
    answer = get("gzip, deflate, br, zstd")
    assert answer.num_bytes_downloaded < len(words) / 6
    assert answer.headers["content-type"] == get("identity").headers["content-type"]
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["vary"] == "Accept-Encoding"
    address = f"{visitor.url}/lab/extensions/{name}"
    with visitor.http.stream("GET", address, headers={"Accept-Encoding": "br"}) as sent:
        box.write("/root/sent.br", b"".join(sent.iter_raw()))
    assert box.sh("brotli --decompress --stdout /root/sent.br") == words.strip()
    assert not is_compressed(get("gzip"))
    assert not is_compressed(get("br;q=0, gzip"))
    assert get("identity").text == words

    # Another version under the same name: never the old one, and compressed in its turn.
    install(words.upper())
    assert get("identity").text == words.upper()
    assert not is_compressed(get("br"))
    wait_until(lambda: is_compressed(get("br")), "it is not compressed")

    before = alice.sh(f"ls {copies}").split()
    box.sh(f"rm -r {place}/@demo")
    wait_until(lambda: len(alice.sh(f"ls {copies}").split()) < len(before), "the copy of what has gone is still there")
