"""A site that an Apache serves already, and what it answers, byte for byte."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass

from lab.box import Box

SITE = """\
<VirtualHost *:80>
    ServerName shop.test
    DocumentRoot /srv/shop
    Alias /manual /srv/manual
    Redirect permanent /old /new.html
    <Directory /srv/>
        Require all granted
        Options Indexes
    </Directory>
    <Location /private>
        AuthType Basic
        AuthName "Members"
        AuthUserFile /etc/apache2/members
        Require valid-user
    </Location>
</VirtualHost>
"""

#: name of the site, what is asked for, more headers
REQUESTS = [
    ("shop.test", "GET / HTTP/1.1", ""),
    ("shop.test", "HEAD /new.html HTTP/1.1", ""),
    ("shop.test", "GET /new.html HTTP/1.1", "Accept-Encoding: gzip, br\r\n"),
    ("shop.test", "GET /manual/ HTTP/1.1", ""),
    ("shop.test", "GET /old HTTP/1.1", ""),
    ("shop.test", "GET /private/ HTTP/1.1", ""),
    ("shop.test", "GET /missing HTTP/1.1", ""),
    ("shop.test", "OPTIONS / HTTP/1.1", ""),
    ("shop.test", "GET / HTTP/1.0", ""),
    ("another.test", "GET / HTTP/1.1", ""),
    ("another.test", "GET /icons/ HTTP/1.1", ""),
]


@dataclass(frozen=True)
class Website:
    """The site ``shop.test``, beside Apache's own start page, on *box*."""

    box: Box

    @staticmethod
    def set_up(box: Box) -> Website:
        """Put the site on the Apache of *box*."""
        box.write("/srv/shop/index.html", "<h1>Shop</h1>\n")
        box.write("/srv/shop/new.html", "<p>" + "new " * 2000 + "</p>\n")
        box.write("/srv/manual/page.html", "<p>How to</p>\n")
        # the ETag of a file that is younger than a second is another one
        box.sh("find /srv -exec touch --date=2020-02-02 {} +")
        box.write("/etc/apache2/members", "")
        box.write("/etc/apache2/sites-available/shop.conf", SITE)
        box.sh("a2ensite --quiet shop && apache2ctl configtest 2>&1 && systemctl reload apache2")
        return Website(box)

    def answers(self) -> dict[str, bytes]:
        """What each request is answered, with all headers except Date, and Allow in the order of the alphabet."""
        return {f"{name}: {request} {more}".strip(): self._ask(name, request, more) for name, request, more in REQUESTS}

    def _ask(self, name: str, request: str, more: str) -> bytes:
        with socket.create_connection((self.box.ip, 80), timeout=30) as connection:
            connection.sendall(f"{request}\r\nHost: {name}\r\nConnection: close\r\n{more}\r\n".encode())
            answer = b""
            while piece := connection.recv(65536):
                answer += piece
        answer = re.sub(rb"\r\nDate: [^\r]*", b"", answer, count=1)
        # Apache lists the methods in the order in which its modules came
        return re.sub(rb"(?<=\r\nAllow: )[^\r]*", lambda found: b",".join(sorted(found[0].split(b","))), answer)
