"""The few calls that a booting machine makes to its API server.

Given: the server's URL, its certificate authority and a token. Gives: JSON answers, or Unreachable / Rejected. A connection
is made per call: machines boot rarely, and each trusts only the authority from its own user data.
"""

import base64
import http.client
import json
import ssl
import urllib.parse
from pathlib import Path
from typing import Any

import yaml


class Unreachable(Exception):
    """No answer, a server that the authority does not vouch for, or a server in trouble: worth another try."""


class Rejected(Exception):
    """The API server understood and said no."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Cluster:
    """One API server as one machine sees it."""

    def __init__(self, server: str, authority: bytes, token: str) -> None:
        self.token = token
        self._url = urllib.parse.urlsplit(server)
        if self._url.scheme != "https" or not self._url.hostname:
            raise Unreachable(f"the API server's address {server!r} is no https URL")
        try:
            self._context = ssl.create_default_context(cadata=authority.decode("ascii", "replace"))
        except ssl.SSLError as failure:
            raise Unreachable(f"the certificate authority cannot be read: {failure}") from failure
        # Python 3.13 asks for more of a self-signed pair than the API server writes.
        self._context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        self._headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}

    def call(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> dict[str, Any]:
        headers = dict(self._headers)
        if body is not None:
            headers["Content-Type"] = kind
        try:
            connection = http.client.HTTPSConnection(self._url.hostname, self._url.port, context=self._context, timeout=10)
            try:
                connection.request(method, path, None if body is None else json.dumps(body), headers)
                answer = connection.getresponse()
                content = answer.read()
            finally:
                connection.close()
        except (OSError, http.client.HTTPException) as failure:
            raise Unreachable(f"{self._url.netloc}: {failure}") from failure
        if answer.status >= 500 or answer.status == 429:
            raise Unreachable(f"{self._url.netloc}: {answer.status} {content[:200]!r}")
        try:
            parsed: dict[str, Any] = json.loads(content)
        except ValueError as failure:
            raise Unreachable(f"{self._url.netloc}: no JSON: {content[:200]!r}") from failure
        if answer.status >= 300:
            raise Rejected(answer.status, str(parsed.get("message", parsed)))
        return parsed


def from_kubeconfig(path: str) -> Cluster:
    """The cluster of the first context of a kubeconfig that holds its authority and a token in itself."""
    config = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    cluster = config["clusters"][0]["cluster"]
    return Cluster(cluster["server"], base64.b64decode(cluster["certificate-authority-data"]), config["users"][0]["user"]["token"])
