"""What a browser gets to see and to fetch with the first answer of JupyterLab and Notebook.

Their pages are empty until a megabyte of scripts has come and run, and name one script, which names others, which
name others: each step costs a round trip. Here the page names all of them at once, and shows that it opens.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2

from . import pages

#: Which scripts a page loads as it opens, in that order: by extension and template. Made by tools/startup-scripts.
SCRIPTS: dict[str, list[str]] = json.loads((Path(__file__).parent / "opening.json").read_text())

#: The first script of each extension: which ones there are the owner decides.
_EXTENSIONS = (
    "{% for one in page_config.federated_extensions or [] %}"
    '<link rel="preload" as="script" href="{{page_config.fullLabextensionsUrl}}/{{one.name}}/{{one.load}}">'
    "{% endfor %}"
)

#: What is behind everything else, and goes with the first part of the page that is drawn.
_SIGHT = """<div id="jupyter-remote-opening" role="status" aria-label="Opening">{mark}</div><style>
#jupyter-remote-opening {{ position: fixed; inset: 0; z-index: -1; display: grid; place-items: center; }}
#jupyter-remote-opening svg {{ width: 80px; height: 80px; }}
body:has(> .lm-Widget, > #jupyterlab-splash) > #jupyter-remote-opening {{ display: none; }}
</style>"""


def open_early(settings: dict[str, Any]) -> None:
    """Have the pages of JupyterLab and Notebook say at once what they will need.

    :param settings: of the web application; extensions leave there where their templates and scripts are.
    """
    for name in {key.partition("/")[0] for key in SCRIPTS}:
        if environment := settings.get(f"{name}_jinja2_env"):
            environment.loader = _Loader(environment.loader, name, settings[f"{name}_static_paths"])


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
        wanted = SCRIPTS.get(f"{self._name}/{template}", ())
        # They are those of the versions that the package has; another one's have other names.
        there = [script for script in wanted if any(Path(place, script).is_file() for place in self._static)]
        return opened_early(source, there), file, is_current

    def list_templates(self) -> list[str]:
        return self._inner.list_templates()


def opened_early(source: str, scripts: list[str]) -> str:
    """A page's template that names *scripts* and shows something; as it was, if it is no page of scripts.

    >>> opened_early("<p>An error</p>", ["a.b.js"])
    '<p>An error</p>'
    """
    if 'id="jupyter-config-data"' not in source:
        return source
    # With the address that webpack will use, to the letter: else it is fetched twice.
    links = "".join(
        f'<link rel="preload" as="script" href="{{{{page_config.fullStaticUrl}}}}/{name}?v={name.split(".")[-2]}">'
        for name in scripts
    )
    links += _EXTENSIONS
    sight = _SIGHT.format(mark=pages.script("mark.svg").strip())
    source = re.sub(r"(<meta charset=[^>]*>)", lambda found: found[1] + links, source, count=1)
    return re.sub(r"(<body[^>]*>)", lambda found: found[1] + sight, source, count=1)
