"""What a browser gets to see, to fetch and to ask for with the first answer of JupyterLab and Notebook.

Their pages are empty until a megabyte of scripts has come and run, and name one script, which names others, which
name others; then they ask the server for one thing after the other. Each step costs a round trip. Here the page names
and asks for all of them at once, and shows that it opens.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jinja2

from . import pages

#: Which scripts a page loads as it opens, in that order: by extension and template. Made by tools/startup-scripts.
SCRIPTS: dict[str, list[str]] = json.loads((Path(__file__).parent / "opening.json").read_text())

#: What a page asks the server for as it opens, below the base URL, without the time that JupyterLab adds.
ANSWERS = (
    "api/kernelspecs",
    "api/me",
    "api/kernels",
    "api/sessions",
    "api/terminals",
    "api/contents?content=1&hash=0",
    "lab/api/settings",
    "lab/api/translations",
    "lab/api/translations/default",
    "lsp/status",
)
#: And what only some do.
MORE_ANSWERS = {"lab/index.html": ("lab/api/workspaces", "lab/api/workspaces/{{ page_config.workspace }}")}

#: The first script of each extension: which ones there are the owner decides.
_EXTENSIONS = (
    "{% for one in page_config.federated_extensions or [] %}"
    '<link rel="preload" as="script" href="{{page_config.fullLabextensionsUrl}}/{{one.name}}/{{one.load}}">'
    "{% endfor %}"
)

#: What is behind everything else, and goes with the first part of the page that is drawn.
_SIGHT = """<div id="jupyter-remote-opening" role="status" aria-label="Opening">{mark}</div><style>
#jupyter-remote-opening {{ position: fixed; inset: 0; z-index: -1; display: grid; place-content: center;
  place-items: center; gap: 24px; font-family: system-ui, sans-serif; }}
#jupyter-remote-opening svg {{ width: 80px; height: 80px; }}
#jupyter-remote-opening::after {{ content: attr(data-says); }}
body:has(> .lm-Widget, > #jupyterlab-splash) > #jupyter-remote-opening {{ display: none; }}
</style>"""


def open_early(settings: dict[str, Any]) -> None:
    """Have the pages of JupyterLab and Notebook say at once what they will need.

    :param settings: of the web application; extensions leave there where their templates and scripts are.
    """
    # The last place is upstream's, with a style sheet that has nothing in it.
    style = [Path(place, "custom.css") for place in settings["static_custom_path"][:-1]]
    for name in {key.partition("/")[0] for key in SCRIPTS}:
        if environment := settings.get(f"{name}_jinja2_env"):
            environment.loader = _Loader(environment.loader, name, settings[f"{name}_static_paths"])
            environment.globals["has_custom_css"] = lambda: any(file.is_file() for file in style)


def scripts_ahead(settings: dict[str, Any], path: str) -> list[str]:
    """The addresses of the scripts that a page will want: for the one before it, on which a password is typed.

    :param settings: of the web application.
    :param path: of the page, with the base URL.
    """
    base = settings["base_url"]
    kind = (path.removeprefix(base) or settings["default_url"].removeprefix(base)).strip("/").partition("/")[0]
    template = {"tree": "notebook/tree.html", "notebooks": "notebook/notebooks.html"}.get(kind, "lab/index.html")
    name = template.partition("/")[0]
    # None where the extension could not be loaded: the login is for the others too.
    places = settings.get(f"{name}_static_paths", ())
    if not places:
        return []
    scripts = _scripts_there(tuple(places), template)
    return [f"{base}static/{name}/{script}?v={_version(script)}" for script in scripts]


@functools.cache
def _scripts_there(places: tuple[str, ...], template: str) -> list[str]:
    """Those that the page names itself, and those that it will want. Looked for once: whoever tries passwords gets a
    page each time."""
    first = [file.name for place in places for file in Path(place).glob("main.*.js")]
    return [*first, *_known_scripts(places, template)]


def _known_scripts(places: Sequence[str], template: str) -> list[str]:
    """Those of the versions that the package has; another version's have other names."""
    wanted = SCRIPTS.get(template, ())
    return [script for script in wanted if any(Path(place, script).is_file() for place in places)]


def _version(script: str) -> str:
    """What webpack adds to a script's address."""
    return script.split(".")[-2]


class _Loader(jinja2.BaseLoader):
    """Templates of another loader, with what is ours put into them."""

    def __init__(self, inner: jinja2.BaseLoader, name: str, static: list[str]) -> None:
        self._inner = inner
        self._name = name
        self._static = static

    def get_source(
        self, environment: jinja2.Environment, template: str
    ) -> tuple[str, str | None, Callable[[], bool] | None]:
        source, file, is_current = self._inner.get_source(environment, template)
        there = _known_scripts(self._static, f"{self._name}/{template}")
        asked = (*ANSWERS, *MORE_ANSWERS.get(f"{self._name}/{template}", ()))
        return opened_early(source, there, asked), file, is_current

    def list_templates(self) -> list[str]:
        return self._inner.list_templates()


def opened_early(source: str, scripts: Sequence[str], answers: Sequence[str]) -> str:
    """A page's template that names *scripts*, asks for *answers* and shows something; as it was, if it has no scripts.

    >>> opened_early("<p>An error</p>", ["a.b.js"], ["api/me"])
    '<p>An error</p>'
    """
    if 'id="jupyter-config-data"' not in source:
        return source
    # Before the scripts: to ask takes a line each, and to answer takes the server some time.
    asked = json.dumps([f"{{{{ base_url }}}}{one}" for one in answers])
    script = re.sub(r"^ *//.*\n", "", pages.script("opening.js"), flags=re.MULTILINE).strip()
    first = f"<script>{{% raw %}}{script}{{% endraw %}}({asked});</script>"
    # With the address that webpack will use, to the letter: else it is fetched twice.
    first += "".join(
        f'<link rel="preload" as="script" href="{{{{page_config.fullStaticUrl}}}}/{name}?v={_version(name)}">'
        for name in scripts
    )
    first += _EXTENSIONS
    # No script runs before a style sheet has come, also an empty one.
    source = source.replace("{% if custom_css %}", "{% if custom_css and has_custom_css() %}")
    sight = _SIGHT.format(mark=pages.script("mark.svg").strip())
    source = re.sub(r"(<meta charset=[^>]*>)", lambda found: found[1] + first, source, count=1)
    return re.sub(r"(<body[^>]*>)", lambda found: found[1] + sight, source, count=1)
