"""The machine's other sites do not notice us."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from lab.box import Box

from tests.client import Client, Page, wait_until
from tests.installed import ANSWERS, PASSWORD
from tests.system.test_kernels import COUNT, Tab

MakeClient = Callable[..., Client]

_ASK = "curl -sik --http1.1 --max-time 10 {url} | grep -iv '^date:'"
_PAGES = ("/", "/page.html", "/missing", "/jupyterlike", "/cgi-bin/")


def make_shop(box: Box, *, https: bool) -> list[str]:
    """An existing site with a name of its own; returns the commands that ask for its pages."""
    box.write("/var/www/shop/index.html", "<h1>shop</h1>\n")
    box.write("/var/www/shop/page.html", "page\n" * 1000)
    # A file of this very second has another ETag a second later.
    box.sh("touch -d 2020-01-01 /var/www/shop/*")
    vhosts = "<VirtualHost *:80>\n  ServerName shop.test\n  DocumentRoot /var/www/shop\n</VirtualHost>\n"
    if https:
        box.sh("openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=shop.test -keyout /etc/shop.key -out /etc/shop.crt")
        vhosts += (
            "<VirtualHost *:443>\n  ServerName shop.test\n  DocumentRoot /var/www/shop\n  SSLEngine on\n"
            "  SSLCertificateFile /etc/shop.crt\n  SSLCertificateKeyFile /etc/shop.key\n</VirtualHost>\n"
        )
        box.sh("a2enmod -q ssl")
    box.write("/etc/apache2/sites-available/shop.conf", vhosts)
    box.sh("a2ensite -q shop && systemctl restart apache2")
    schemes = ("http", "https") if https else ("http",)
    return [
        _ASK.format(url=f"--resolve {name}:80:127.0.0.1 --resolve {name}:443:127.0.0.1 {scheme}://{name}{page}")
        for scheme in schemes
        for name in ("shop.test", "box.test")
        for page in _PAGES
    ]


@pytest.mark.either_release
@pytest.mark.parametrize("https", [False, True], ids=["plain", "https"])
def test_an_existing_site_answers_byte_for_byte_as_before(fresh_box: Box, deb: Path, https: bool) -> None:
    questions = make_shop(fresh_box, https=https)
    before = [fresh_box.sh(question) for question in questions]
    assert "shop" in before[0]
    fresh_box.install(deb, ANSWERS)
    assert [fresh_box.sh(question) for question in questions] == before
    assert "version" in fresh_box.sh("curl -skf https://localhost/jupyter/api")
    fresh_box.sh("apt-get -qq purge --yes jupyter-remote", env={"DEBIAN_FRONTEND": "noninteractive"})
    assert [fresh_box.sh(question) for question in questions] == before


@pytest.mark.either_release
def test_an_https_vhost_that_is_there_is_used_and_gets_no_rival(fresh_box: Box, deb: Path) -> None:
    make_shop(fresh_box, https=True)
    fresh_box.install(deb, ANSWERS)
    assert not fresh_box.exists("/etc/apache2/sites-enabled/jupyter-remote.conf")
    served = fresh_box.sh(
        "curl -skfv --resolve shop.test:443:127.0.0.1 https://shop.test/jupyter/api 2>&1 | grep -E 'subject:|version'"
    )
    assert "CN=shop.test" in served.replace(" ", "")
    assert "version" in served


@pytest.mark.one_release
def test_an_upload_to_another_site_keeps_its_limits(fresh_box: Box, deb: Path) -> None:
    make_shop(fresh_box, https=False)
    fresh_box.write("/etc/apache2/conf-available/limit.conf", "LimitRequestBody 1000\n")
    fresh_box.sh("a2enconf -q limit && systemctl reload apache2")
    fresh_box.install(deb, ANSWERS)
    code = "head -c 5000 /dev/zero | curl -sk -o /dev/null -w '%{http_code}' --data-binary @- "
    assert fresh_box.sh(code + "http://localhost/index.html") == "413"
    assert fresh_box.sh(code + "https://localhost/jupyter/login") != "413"


def test_plain_http_only_leads_to_https(box: Box) -> None:
    for path in ("/jupyter", "/jupyter/", "/jupyter/login?next=%2Fjupyter%2Flab", "/jupyter/api/kernels"):
        answer = box.sh(f"curl -si 'http://localhost{path}'")
        assert " 302 " in answer.splitlines()[0]
        assert f"Location: https://localhost{path}" in answer
    assert "Location: https://localhost/jupyter/" in box.sh("curl -sik --http1.1 https://localhost/jupyter").replace(
        "location", "Location"
    )


@pytest.mark.one_release
def test_a_client_cannot_lie_about_its_address(box: Box) -> None:
    box.sh(
        "curl -sk -o /dev/null -H 'X-Real-IP: 203.0.113.9' -H 'X-Forwarded-For: 203.0.113.9' "
        "-H 'X-Scheme: http' -d password=wrong https://localhost/jupyter/login"
    )
    assert "203.0.113.9" not in box.journal("jupyter-remote.service")


def test_http2_is_spoken_on_our_vhost(box: Box) -> None:
    assert box.sh("curl -sk -o /dev/null -w '%{http_version}' https://localhost/jupyter/api") == "2"


@pytest.mark.one_release
def test_reloads_of_apache_leave_places_to_the_other_sites(box: Box, client: MakeClient):
    """Each leaves a process with the websockets of before; Debian's Apache has sixteen places."""
    box.sh("systemctl restart apache2")
    visitor = client(box).login(PASSWORD)
    tabs = []
    for _ in range(18):
        tabs.append(visitor.events())
        box.sh("systemctl reload apache2; sleep 0.5")
        assert "Apache2 Debian Default Page" in box.sh("curl --silent --fail --max-time 20 http://localhost/")
    for tab in tabs:
        tab.close()


@pytest.mark.one_release
def test_many_open_tabs_leave_threads_to_the_other_sites(box: Box, client: MakeClient):
    """Each websocket holds one of Apache's, and Debian has 150."""
    visitor = client(box).login(PASSWORD)
    tabs = [visitor.events() for _ in range(400)]
    ask = "curl --silent --fail --max-time 20 http://localhost/"
    assert "Apache2 Debian Default Page" in box.sh(ask)
    assert visitor.logged_in
    for tab in tabs:
        tab.close()

    # Numbers that an administrator has chosen are theirs.
    box.sh("sed -i 's/MaxRequestWorkers .*/MaxRequestWorkers 175/' /etc/apache2/mods-available/mpm_event.conf")
    box.sh("jupyter-remote apply")
    assert "MORE_WORKERS" not in box.read("/var/lib/jupyter-remote/rendered/apache-defines.conf")
    assert "version" in box.sh("curl -sk --fail https://localhost/jupyter/api")


def open_pages(visitor: Client, kernel: str) -> list[Page]:
    """What a page of JupyterLab has open: a kernel, a terminal, events."""
    terminal = visitor.api("POST", "terminals")["name"]
    paths = (f"api/kernels/{kernel}/channels", f"terminals/websocket/{terminal}", "api/events/subscribe")
    return [Page(visitor, path) for path in paths]


def killed(box: Box) -> list[str]:
    """What Apache has said of processes that did not end when they were told to: it waits 9 s before it says so."""
    log = box.read("/var/log/apache2/error.log")
    return [line for line in log.splitlines() if "sending a SIGKILL" in line]


@pytest.mark.either_release
def test_apache_does_not_wait_for_pages_when_it_is_stopped(box: Box, client: MakeClient):
    """No site of the machine would be answered meanwhile."""
    box.sh("jupyter-remote add-user bob --stdin", input="bob's 'horse'\n")
    hers, his = client(box).login(PASSWORD), client(box, base_url="/jupyter-bob").login("bob's 'horse'")
    notebook = Tab(hers, "a.ipynb")
    cell = notebook.submit(COUNT.format(stop="/tmp/stop"))
    notebook.prints_on(cell)
    pages = open_pages(hers, notebook.kernel) + open_pages(his, his.start_kernel().id)

    box.sh("systemctl reload apache2")
    notebook.prints_on(cell)
    assert [page.opened for page in pages] == [1] * 6, "a reload is not felt"

    for restart in ("systemctl restart apache2", "systemctl stop apache2; systemctl start apache2"):
        for page in pages:
            page.opened = 0
        box.sh(restart)
        assert not killed(box), restart
        wait_until(lambda: all(page.opened for page in pages), "a page does not come back")
        notebook.prints_on(cell)
        wait_until(lambda: box.is_active("jupyter-remote-hangup.service"), "it is not there for the next time")
    for page in pages:
        page.close()
    hers.api("POST", f"kernels/{notebook.kernel}/interrupt")
    assert "KeyboardInterrupt" in str(notebook.finished(cell))
    numbers = notebook.text(cell).splitlines()
    assert numbers == [str(number) for number in range(len(numbers))], "all, once, in order"
    notebook.close()


@pytest.mark.one_release
def test_our_unit_alone_disturbs_nobody_and_is_needed(box: Box, client: MakeClient):
    visitor = client(box).login(PASSWORD)
    kernel = visitor.start_kernel()
    (page, *_) = pages = open_pages(visitor, kernel.id)
    box.sh("systemctl restart jupyter-remote-hangup.service; systemctl stop jupyter-remote-hangup.service")
    assert kernel.execute("6 * 7").value == "42"
    assert [page.opened for page in pages] == [1] * 3
    assert box.is_active("apache2.service")
    # Without it this is what comes.
    box.sh("systemctl restart apache2")
    assert killed(box)
    wait_until(lambda: box.is_active("jupyter-remote-hangup.service"), "Apache does not want it")
    for page in pages:
        page.close()


@pytest.mark.one_release
def test_apache_is_restarted_also_when_a_keeper_hangs(box: Box, client: MakeClient):
    visitor = client(box).login(PASSWORD)
    kernel = visitor.start_kernel()
    kernel.execute("x = 41")
    events = Page(visitor, "api/events/subscribe")
    box.sh("systemctl kill --signal=STOP 'jupyter-remote-kernel@*'")
    box.sh("systemctl stop apache2", timeout=60)
    assert box.sh("systemctl --failed --no-legend") == ""
    box.sh("systemctl start apache2")
    assert "Apache2 Debian Default Page" in box.sh("curl --silent --fail --max-time 20 http://localhost/")
    wait_until(lambda: events.opened > 1, "a page does not come back")
    box.sh("systemctl kill --signal=CONT 'jupyter-remote-kernel@*'")
    assert visitor.connect(kernel.id).execute("x + 1").value == "42"
    events.close()
