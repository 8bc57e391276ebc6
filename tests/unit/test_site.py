"""The documentation is a site whose links all lead somewhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]


def test_every_page_is_in_a_menu_and_every_link_leads_somewhere(tmp_path: Path):
    made = subprocess.run([sys.executable, TOP / "tools/site", tmp_path / "site"], capture_output=True, text=True)
    assert made.returncode == 0, made.stdout + made.stderr
    pages = {page.name for page in (tmp_path / "site").glob("*.html")}
    assert {"index.html", "tutorial.html", "settings.html", "commands.html", "comparison.html"} <= pages
    assert "kernels.default" in (tmp_path / "site/settings.html").read_text()
    assert "jupyter-remote adopt" in (tmp_path / "site/commands.html").read_text()
    # Nothing is loaded from anybody else.
    for page in (tmp_path / "site").glob("*.html"):
        for word in ('src="http', 'href="//', "fonts.googleapis"):
            assert word not in page.read_text(), (page.name, word)
