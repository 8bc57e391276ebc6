"""Reading what Apache says of its own configuration. (What it *does* is proved in boxes.)"""

from __future__ import annotations

from pathlib import Path

import pytest

from jupyter_remote import apache, paths

# As `apache2ctl -t -D DUMP_CONFIG` prints it, with file and line above each directive.
_DUMP = """\
# In file: /etc/apache2/sites-enabled/shop.conf
#   1:
<VirtualHost *:80>
  #   2:
  DocumentRoot /var/www/shop
  #   3:
  Alias /jupyterish /srv/other
</VirtualHost>
#   9:
<VirtualHost *:443>
  #  10:
  SSLEngine on
  #  12:
  <Location "/lab/">
    #  13:
    ProxyPass "http://127.0.0.1:8888/lab/"
  </Location>
  #  14:
  RedirectMatch ^/old(/|$) /new
  #  15:
  RewriteRule ^ - [E=x:1]
</VirtualHost>
# In file: /etc/apache2/sites-enabled/jupyter-remote.conf
#  15:
<VirtualHost *:443>
  #  21:
  SSLEngine on
</VirtualHost>
# In file: /etc/apache2/conf-enabled/jupyter-remote.conf
#  20:
<Location "/jupyter/">
</Location>
Syntax OK
"""


@pytest.fixture
def config() -> list[apache.Directive]:
    return list(apache._parse_dump(_DUMP))


def test_a_directive_is_known_with_its_file_line_and_vhost(config: list[apache.Directive]) -> None:
    assert (
        apache.Directive(
            "/etc/apache2/sites-enabled/shop.conf", 13, "ProxyPass", '"http://127.0.0.1:8888/lab/"', "*:443"
        )
        in config
    )


def test_an_https_vhost_of_somebody_else_is_found_and_ours_is_not(config: list[apache.Directive]) -> None:
    assert apache.https_vhosts(config) == ["/etc/apache2/sites-enabled/shop.conf"]


@pytest.mark.parametrize(
    ("base_url", "expected"),
    [
        ("/lab", ['/etc/apache2/sites-enabled/shop.conf:12: Location "/lab/"']),
        ("/old", ["/etc/apache2/sites-enabled/shop.conf:14: RedirectMatch ^/old(/|$) /new"]),
        # Ours, a longer name, and a rule for everything are no conflict.
        ("/jupyter", []),
        ("/free", []),
    ],
)
def test_a_base_url_that_another_site_uses_is_named_with_file_and_line(
    config: list[apache.Directive], base_url: str, expected: list[str]
) -> None:
    assert apache.users_of(base_url, config) == expected


def test_a_directory_of_that_name_in_a_site_is_a_conflict(tmp_path) -> None:  # noqa: ANN001
    (tmp_path / "jupyter").mkdir()
    site = [apache.Directive("/etc/apache2/sites-enabled/a.conf", 3, "DocumentRoot", f'"{tmp_path}"', "*:80")]
    assert apache.users_of("/jupyter", site) == [
        f"/etc/apache2/sites-enabled/a.conf:3: the directory {tmp_path}/jupyter"
    ]


def test_https_needs_the_modules_that_others_depend_on_first() -> None:
    needed = apache.needed_modules(https=True)
    assert needed.index("socache_shmcb") < needed.index("ssl")
    assert needed.index("proxy") < needed.index("proxy_http")
    assert "ssl" not in apache.needed_modules(https=False)
    assert apache.needed_modules(https=True, acme=True)[-2:] == ["ssl", "md"]


def test_a_plain_site_with_pages_of_its_own_is_told_from_debians_start_page(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("It works!")

    def found(name: str, arguments: str, vhost: str = "*:80", file: str = "/etc/apache2/sites-enabled/a.conf") -> bool:
        return bool(apache.plain_sites([apache.Directive(file, 3, name, arguments, vhost)]))

    assert not found("DocumentRoot", str(tmp_path))
    (tmp_path / "more.html").write_text("mine")
    assert found("DocumentRoot", f'"{tmp_path}"')
    assert found("DocumentRoot", str(tmp_path), vhost="")
    assert not found("DocumentRoot", str(tmp_path), vhost="*:443")
    assert found("ProxyPass", "/ http://localhost:3000/")
    assert not found("ProxyPass", "/ http://localhost:3000/", vhost="*:443")
    # Debian's /icons/ and /javascript/ are no site.
    assert not found("Alias", "/icons/ /usr/share/apache2/icons/", vhost="")
    assert not found("DocumentRoot", str(tmp_path), file="/etc/apache2/sites-enabled/jupyter-remote.conf")


@pytest.mark.parametrize(
    ("place", "expected"), [("80", True), ("0.0.0.0:80", True), ("[::]:80 http", True), ("8080", False)]
)
def test_a_port_that_apache_listens_on(place: str, expected: bool) -> None:
    assert apache.listens(80, [apache.Directive("/etc/apache2/ports.conf", 5, "Listen", place, "")]) is expected


@pytest.mark.parametrize(
    ("numbers", "are_debians"),
    [
        ({"ThreadLimit": 64, "ThreadsPerChild": 25, "MaxRequestWorkers": 150}, True),
        ({"ThreadLimit": 64, "ThreadsPerChild": 25, "MaxRequestWorkers": 400}, False),
        ({"ThreadLimit": 64, "ThreadsPerChild": 25, "MaxRequestWorkers": 150, "ServerLimit": 32}, False),
        ({"MaxRequestWorkers": 150}, False),
        ({}, False),
    ],
)
def test_numbers_of_workers_that_somebody_has_chosen_are_known(numbers: dict[str, int], are_debians: bool) -> None:
    dump = "# In file: /etc/apache2/mods-enabled/mpm_event.conf\n"
    dump += "".join(f"#  7:\n{name} {number}\n" for name, number in numbers.items())
    dump += "# In file: /etc/apache2/conf-enabled/jupyter-remote.conf\n#  9:\nMaxRequestWorkers 1024\n"
    assert apache.has_debians_workers(list(apache._parse_dump(dump))) is are_debians


def test_the_settings_of_a_module_that_was_half_switched_on_are_taken_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    enabled, ours = tmp_path / "mods-enabled", tmp_path / "apache-modules"
    enabled.mkdir()
    monkeypatch.setattr(apache, "_MODS_ENABLED", enabled)
    monkeypatch.setattr(paths, "ENABLED_MODULES", ours)
    ours.write_text("proxy\nssl\n")
    for name in ("proxy.conf", "proxy.load", "ssl.conf", "status.conf"):
        (enabled / name).symlink_to(f"../mods-available/{name}")
    apache.drop_half_enabled()
    # What others do with theirs is their business.
    assert sorted(path.name for path in enabled.iterdir()) == ["proxy.conf", "proxy.load", "status.conf"]
    # A removal was killed while it tried whether somebody else needs it.
    for name in ("proxy.conf", "proxy.load"):
        (enabled / name).rename(enabled / f"{name}.aside")
    apache.drop_half_enabled()
    assert sorted(path.name for path in enabled.iterdir()) == ["proxy.conf", "proxy.load", "status.conf"]
