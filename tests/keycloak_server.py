"""A stand-in for a Keycloak server, which cannot be had where the tests run: an OpenID Connect provider with one realm
and one client, whose users, roles and permissions are given; it keeps all in memory.

It answers what Airflow's Keycloak auth manager and an OpenID Connect client ask, as far as the manager's code and
Keycloak's documentation tell: discovery, the authorization code flow with its log-in form, tokens by code, password,
client credentials and refresh, the keys that sign them (RS256), user info, and the decisions of its authorization
services (UMA tickets, with pushed claims). It is no proof of what a real Keycloak does.
"""

from __future__ import annotations

import base64
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

REALM, CLIENT, CLIENT_SECRET = "hospital", "airflow", "the client's secret"
UMA = "urn:ietf:params:oauth:grant-type:uma-ticket"
ALL_ROLES = frozenset({"Viewer", "User", "Op", "Admin", "SuperAdmin"})


@dataclass(frozen=True)
class Person:
    """:param only: DAGs and connections that they have rights on; None for all."""

    name: str
    roles: frozenset[str]
    password: str = ""
    only: frozenset[str] | None = None


@dataclass(frozen=True)
class Refused(Exception):
    status: int
    error: str
    description: str = ""


Decide = Callable[[Person, str, str, Mapping[str, Any]], bool]
"""person, resource, scope, pushed claims -> whether they may."""


def default_permissions(person: Person, resource: str, scope: str, claims: Mapping[str, Any]) -> bool:
    """What ``airflow keycloak-auth-manager create-all`` sets up (read in its code), and one policy more: what is asked
    about by name has to be in the person's :attr:`Person.only`."""
    named = claims.get("resource_id", [None])[0]
    if person.only is not None and resource in ("Dag", "Connection") and named is not None and named not in person.only:
        return False
    roles = person.roles
    return (
        (scope in ("GET", "MENU", "LIST") and bool(roles & ALL_ROLES))
        or ("User" in roles and resource in ("Dag", "Asset"))
        or ("Op" in roles and resource in ("Connection", "Pool", "Variable", "Backfill"))
        or bool(roles & {"Admin", "SuperAdmin"})
    )


@dataclass
class Keycloak:
    """The server's state.

    :param direct_grants: whether its client may ask for tokens by name and password.
    :param is_down: it hangs up on whoever asks.
    :param asked: the permissions that were asked for, with the claims.
    """

    url: str
    people: Mapping[str, Person]
    decide: Decide = default_permissions
    direct_grants: bool = True
    is_down: bool = False
    lifetime: int = 300
    asked: list[tuple[str, str, Mapping[str, Any]]] = field(default_factory=list)
    _codes: dict[str, tuple[Person, Mapping[str, str]]] = field(default_factory=dict)
    _refresh: dict[str, Person] = field(default_factory=dict)
    _key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))

    @property
    def authorization(self) -> str:
        """Address of its log-in form."""
        return str(self.discovery()["authorization_endpoint"])

    @property
    def issuer(self) -> str:
        return f"{self.url}/realms/{REALM}"

    def discovery(self) -> dict[str, Any]:
        base = f"{self.issuer}/protocol/openid-connect"
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{base}/auth",
            "token_endpoint": f"{base}/token",
            "userinfo_endpoint": f"{base}/userinfo",
            "jwks_uri": f"{base}/certs",
            "end_session_endpoint": f"{base}/logout",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        }

    def keys(self) -> dict[str, Any]:
        public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self._key.public_key()))
        return {"keys": [{**public, "kid": "1", "use": "sig", "alg": "RS256"}]}

    def code_for(self, name: str, password: str, asked: Mapping[str, str]) -> str:
        code = secrets.token_urlsafe(16)
        self._codes[code] = (self._by_password(name, password), asked)
        return code

    def tokens(self, form: Mapping[str, list[str]], headers: Mapping[str, str]) -> Any:
        """What the token endpoint says."""
        said = {name: values[0] for name, values in form.items()}
        grant = said.get("grant_type", "")
        if grant == UMA:
            return self._decision(said, form["permission"], self.bearer(headers))
        self._check_client(said, headers)
        if grant == "password":
            if not self.direct_grants:
                raise Refused(400, "unauthorized_client", "Client not allowed for direct access grants")
            return self._issued(self._by_password(said.get("username", ""), said.get("password", "")))
        if grant == "client_credentials":
            return self._issued(self.people[f"service-account-{CLIENT}"], refresh=False)
        if grant == "refresh_token" and said.get("refresh_token") in self._refresh:
            return self._issued(self._refresh.pop(said["refresh_token"]))
        if grant == "authorization_code":
            person, asked = self._codes.pop(said.get("code", ""), (None, {}))
            if person is not None and asked["redirect_uri"] == said.get("redirect_uri"):
                return self._issued(person, nonce=asked.get("nonce", ""))
        raise Refused(400, "invalid_grant", "Not known")

    def bearer(self, headers: Mapping[str, str]) -> Person:
        _scheme, _, token = headers.get("Authorization", "").partition(" ")
        try:
            key = self._key.public_key()
            claims = jwt.decode(token, key, algorithms=["RS256"], audience=CLIENT, issuer=self.issuer)
        except jwt.PyJWTError:
            raise Refused(401, "invalid_token") from None
        return self.people[claims["preferred_username"]]

    def _decision(self, said: Mapping[str, str], permissions: list[str], person: Person) -> Any:
        claims = json.loads(base64.b64decode(said["claim_token"])) if "claim_token" in said else {}
        granted = []
        for permission in permissions:
            resource, _, scope = permission.partition("#")
            self.asked.append((resource, scope, claims))
            if self.decide(person, resource, scope, claims):
                granted.append({"rsid": resource, "rsname": resource, "scopes": [scope]})
        if not granted:
            raise Refused(403, "access_denied", "not_authorized")
        return (
            granted if said.get("response_mode") == "permissions" else {"access_token": "a ticket", "upgraded": False}
        )

    def _check_client(self, said: Mapping[str, str], headers: Mapping[str, str]) -> None:
        scheme, _, value = headers.get("Authorization", "").partition(" ")
        given = (said.get("client_id", ""), said.get("client_secret", ""))
        if scheme.lower() == "basic":
            name, _, secret = base64.b64decode(value).decode().partition(":")
            given = (name, secret)
        if given != (CLIENT, CLIENT_SECRET):
            raise Refused(401, "unauthorized_client", "Invalid client or Invalid client credentials")

    def _by_password(self, name: str, password: str) -> Person:
        person = self.people.get(name)
        if person is None or not person.password or person.password != password:
            raise Refused(401, "invalid_grant", "Invalid user credentials")
        return person

    def _issued(self, person: Person, *, refresh: bool = True, nonce: str = "") -> dict[str, Any]:
        now = int(time.time())
        claims = {
            "iss": self.issuer, "aud": CLIENT, "azp": CLIENT, "iat": now, "exp": now + self.lifetime,
            "sub": subject(person), "preferred_username": person.name, "email": f"{person.name}@hospital.example",
            "realm_access": {"roles": sorted(person.roles)}, "jti": secrets.token_hex(8),
        }  # fmt: skip
        if nonce:
            claims["nonce"] = nonce
        token = jwt.encode(claims, self._key, algorithm="RS256", headers={"kid": "1"})
        answer = {"access_token": token, "id_token": token, "token_type": "Bearer", "expires_in": self.lifetime}
        if refresh:
            answer["refresh_token"] = jwt.encode({**claims, "exp": now + 1800}, self._key, algorithm="RS256")
            self._refresh[str(answer["refresh_token"])] = person
        return answer


def subject(person: Person) -> str:
    return f"id-of-{person.name}"


@contextmanager
def keycloak(*people: Person) -> Iterator[Keycloak]:
    """A server on loopback."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    state = Keycloak(f"http://127.0.0.1:{server.server_address[1]}", {person.name: person for person in people})
    server.keycloak = state  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def keycloak(self) -> Keycloak:
        return self.server.keycloak  # type: ignore[attr-defined, no-any-return]

    def do_GET(self) -> None:
        self._answer(self._got)

    def do_POST(self) -> None:
        self._answer(self._posted)

    def _got(self, name: str) -> None:
        if name == ".well-known/openid-configuration":
            self._send(200, self.keycloak.discovery())
        elif name == "protocol/openid-connect/certs":
            self._send(200, self.keycloak.keys())
        elif name == "protocol/openid-connect/userinfo":
            person = self.keycloak.bearer(self.headers)  # type: ignore[arg-type]
            told = {"sub": subject(person), "preferred_username": person.name, "groups": sorted(person.roles)}
            self._send(200, {**told, "email": f"{person.name}@hospital.example"})
        elif name == "protocol/openid-connect/auth":
            form = '<form method="post"><input name="username"><input name="password" type="password"></form>'
            self._send(200, form)
        else:
            raise Refused(404, "not_found")

    def _posted(self, name: str) -> None:
        length = int(self.headers.get("Content-Length", 0))
        form = parse_qs(self.rfile.read(length).decode(), keep_blank_values=True)
        if name == "protocol/openid-connect/token":
            self._send(200, self.keycloak.tokens(form, self.headers))  # type: ignore[arg-type]
        elif name == "protocol/openid-connect/auth":
            asked = dict(parse_qsl(urlsplit(self.path).query))
            code = self.keycloak.code_for(form["username"][0], form["password"][0], asked)
            back = urlencode({"code": code, "state": asked.get("state", "")})
            self._send(302, "", location=f"{asked['redirect_uri']}?{back}")
        else:
            raise Refused(404, "not_found")

    def _answer(self, act: Callable[[str], None]) -> None:
        prefix, path = f"/realms/{REALM}/", urlsplit(self.path).path
        if self.keycloak.is_down:
            self.close_connection = True
            return
        try:
            if not path.startswith(prefix):
                raise Refused(404, "Realm does not exist")
            act(path.removeprefix(prefix))
        except Refused as refused:
            self._send(refused.status, {"error": refused.error, "error_description": refused.description})

    def _send(self, status: int, body: Any, **headers: str) -> None:
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status, HTTPStatus(status).phrase)
        self.send_header("Content-Type", "text/html" if isinstance(body, str) else "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass
