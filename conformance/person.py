"""The person of leg G: signs in to the suite's server when Mainstay says that somebody has to, as the dashboard would.

The browser agrees to everything and shows nothing: it follows redirects, from the authorization server back to Mainstay.
"""

import json
import time
import urllib.error
import urllib.request

from upstream import NAME

# The client id that the suite knows a metadata document of.
DOCUMENT = "https://conformance-test.local/client-metadata.json"

# After so many sign-ins a person gives up.
PATIENCE = 3

PAGE_SECONDS = 15
PAUSE_SECONDS = 0.1


def auth_of(scenario: str, context: dict) -> dict:
    """What an entry's `auth` says for a scenario: the credentials that it hands out."""
    match scenario.rpartition("/")[2]:
        case "client-credentials-jwt":
            return {
                "grant": "clientCredentials",
                "clientId": context["client_id"],
                "privateKey": context["private_key_pem"],
                "algorithm": context["signing_algorithm"],
            }
        case "client-credentials-basic":
            return {
                "grant": "clientCredentials",
                "clientId": context["client_id"],
                "clientSecret": context["client_secret"],
            }
        case "enterprise-managed-authorization":
            provider = {
                "issuer": context["idp_issuer"],
                "tokenUrl": context["idp_token_endpoint"],
                "clientId": context["idp_client_id"],
                "idToken": context["idp_id_token"],
            }
            return {
                "grant": "enterprise",
                "clientId": context["client_id"],
                "clientSecret": context["client_secret"],
                "enterprise": provider,
            }
        case "pre-registration":
            return {"clientId": context["client_id"], "clientSecret": context["client_secret"]}
        case _:
            return {"clientMetadataUrl": DOCUMENT}


class Person:
    """Signs in as often as it takes, within reason."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self.signed_in = 0

    def is_wanted(self) -> bool:
        """Whether a server cannot go on without somebody."""
        known = self._api("/api/v1/auth") or {"signIns": []}
        return any(entry["state"] == "needed" for entry in known["signIns"])

    def sign_in(self) -> bool:
        """Signs in once, and says whether that came about."""
        if self.signed_in >= PATIENCE:
            return False
        self.signed_in += 1
        begun = self._api(f"/api/v1/servers/{NAME}/login", {"how": "browser"})
        if begun is None:
            return False
        try:
            urllib.request.urlopen(begun["url"], timeout=PAGE_SECONDS).close()
        except (urllib.error.URLError, OSError):
            pass  # What came of it, Mainstay says.
        until = time.monotonic() + PAGE_SECONDS
        while time.monotonic() < until:
            course = self._api(f"/api/v1/logins/{begun['id']}")
            if course is None or course["state"] != "waiting":
                return course is not None and course["state"] == "done"
            time.sleep(PAUSE_SECONDS)
        return False

    def _api(self, path: str, body: dict | None = None) -> dict | None:
        """What the admin API answers, or nothing if it refuses."""
        headers = {"Mainstay-Request": "1", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base_url + path, data, headers)
        try:
            with urllib.request.urlopen(request, timeout=PAGE_SECONDS) as answer:
                return json.load(answer)
        except (urllib.error.URLError, OSError):
            return None
