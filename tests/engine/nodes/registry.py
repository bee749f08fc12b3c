"""A stand-in for a container registry: what containerd asks of one when it looks for an image, and why it gets none.

Source: OCI distribution specification v1.1, "Pulling manifests" and "Error codes"; the challenge and the token are
those of a registry whose users somebody else knows (distribution/distribution v3, docs/content/spec/auth/token.md). No
image can be had of it: each repository has one fault.

`python -m engine.nodes.registry --host ADDRESS --port PORT` serves until it is ended; `trust` tells a node that it
speaks plain HTTP.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from engine.nodes.network import HUB, REGISTRY_PORT

ADDRESS = f"{HUB}:{REGISTRY_PORT}"
#: No such tag; a repository that who is unknown may not see, by the two ways that registries have of saying so; one
#: that nobody may see from here; one that was asked too often; one whose manifest is larger than a full disk takes.
GONE, PRIVATE, CLOSED, FORBIDDEN, BUSY, LARGE = (
    f"{ADDRESS}/team/{name}:1" for name in ("gone", "private", "closed", "forbidden", "busy", "large")
)
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_EMPTY = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": f"sha256:{'0' * 64}", "size": 2}
_LARGE_BYTES = 256 * 1024


def trust(node_folder: Path) -> None:
    """containerd's hosts.toml in a node's folder of registries: https is what it would try (docs/hosts.md of 1.6)."""
    url = f"http://{ADDRESS}"
    told = node_folder / "registries" / ADDRESS / "hosts.toml"
    told.parent.mkdir(parents=True, exist_ok=True)
    told.write_text(f'server = "{url}"\n[host."{url}"]\n  capabilities = ["pull", "resolve"]\n')


def application() -> web.Application:
    """The routes, to be served by whom it may concern."""
    made = web.Application()
    made.router.add_get("/v2/", _version)
    made.router.add_get("/v2/team/{name}/manifests/{reference}", _manifest)
    made.router.add_get("/v2/team/{name}/blobs/{digest}", _gone)
    made.router.add_get("/token", _token)
    return made


async def _version(_: web.Request) -> web.Response:
    return web.json_response({})


async def _manifest(request: web.Request) -> web.Response:
    return _ANSWERS[request.match_info["name"]](request)


async def _token(request: web.Request) -> web.Response:
    """For whoever asks, but what is closed to strangers is not even spoken of."""
    if "/closed:" in request.query.get("scope", ""):
        return _error(401, "UNAUTHORIZED", "authentication required")
    return web.json_response({"token": "of-a-stranger", "expires_in": 300})


async def _gone(_: web.Request) -> web.Response:
    return _error(404, "BLOB_UNKNOWN", "blob unknown to registry")


def _unknown(_: web.Request) -> web.Response:
    return _error(404, "MANIFEST_UNKNOWN", "manifest unknown")


def _unauthorized(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    challenge = (
        f'Bearer realm="http://{ADDRESS}/token",service="{ADDRESS}",scope="repository:team/{name}:pull"'
    )
    if "Authorization" in request.headers:
        challenge += ',error="insufficient_scope"'
    return _error(401, "UNAUTHORIZED", "authentication required", **{"WWW-Authenticate": challenge})


def _forbidden(_: web.Request) -> web.Response:
    return _error(403, "DENIED", "requested access to the resource is denied")


def _busy(_: web.Request) -> web.Response:
    return _error(429, "TOOMANYREQUESTS", "You have reached your pull rate limit")


def _large(_: web.Request) -> web.Response:
    manifest = {"schemaVersion": 2, "mediaType": _MANIFEST, "config": _EMPTY, "layers": [_EMPTY]}
    content = json.dumps({**manifest, "annotations": {"padding": "x" * _LARGE_BYTES}}).encode()
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return web.Response(body=content, content_type=_MANIFEST, headers={"Docker-Content-Digest": digest})


def _error(status: int, code: str, message: str, **headers: str) -> web.Response:
    errors = {"errors": [{"code": code, "message": message}]}
    return web.json_response(errors, status=status, headers=headers)


_ANSWERS: dict[str, Callable[[web.Request], web.Response]] = {
    "gone": _unknown,
    "private": _unauthorized,
    "closed": _unauthorized,
    "forbidden": _forbidden,
    "busy": _busy,
    "large": _large,
}


def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    given = parser.parse_args()
    web.run_app(application(), host=given.host, port=given.port, print=None)


if __name__ == "__main__":
    main()
