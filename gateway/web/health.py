"""What a monitor asks: `/health` (how we are, and why), `/ready` (send us calls?), `/metrics` (Prometheus)."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

from aiohttp import web

from gateway.files.watch import TownsInForce

# A monitor asks with a few hundred bytes and without a body.
BODY_BYTES_MAX = 1024

# Prometheus' text format, https://prometheus.io/docs/instrumenting/exposition_formats/
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# A monitor is read on a screen: of thousands of towns with mistakes the first are named, and each one by /health?town=KEY.
TOWNS_SHOWN_MAX = 20
MISTAKES_SHOWN_MAX = 20
# As much of a hash as is shown: different ones differ in it.
HASH_SHOWN = 12

FRESH = {"Cache-Control": "no-store"}
# Each part of the house by name: None while it is well, else what is wrong and what holds meanwhile.
Health = Mapping[str, str | None]


def health_app(
    health: Callable[[], Awaitable[Health]],
    is_ready: Callable[[], bool],
    metrics_text: Callable[[], bytes],
    nodes: Callable[[], Sequence[Mapping[str, object]]] = tuple,
    towns: TownsInForce | None = None,
) -> web.Application:
    """The three pages. Nothing personal and nothing secret stands on them.

    `/health?town=KEY` is about one town, and 404 where there is none of that key.
    """

    async def show_health(request: web.Request) -> web.Response:
        key = request.query.get("town")
        if key is not None and towns is not None:
            found = town_health(towns, key)
            return web.json_response(found, status=200 if found["served"] or "why" in found else 404, headers=FRESH)
        parts = await health()
        wrong = {name: why for name, why in parts.items() if why is not None}
        body: dict[str, object] = {
            "status": "degraded" if wrong else "ok",
            "parts": {name: parts[name] or "ok" for name in parts},
            "nodes": [dict(node) for node in nodes()],
        }
        if towns is not None:
            body["configuration"] = towns.digest[:HASH_SHOWN]
            body["towns"] = {"served": len(towns.municipalities), "with_mistakes": len(towns.refused)}
        # A doubtful clock or a refused edit is no reason to be taken out of service: the line goes on.
        return web.json_response(body, headers=FRESH)

    async def show_ready(_: web.Request) -> web.Response:
        ready = is_ready()
        return web.json_response({"ready": ready}, status=200 if ready else 503, headers=FRESH)

    async def show_metrics(_: web.Request) -> web.Response:
        return web.Response(body=metrics_text(), headers={"Content-Type": METRICS_TYPE})

    app = web.Application(client_max_size=BODY_BYTES_MAX)
    app.router.add_get("/health", show_health)
    app.router.add_get("/ready", show_ready)
    app.router.add_get("/metrics", show_metrics)
    return app


def towns_health(towns: TownsInForce) -> Health:
    """`calendars`, and a part of their own for the first of those with mistakes."""
    refused = sorted(towns.refused)
    parts: dict[str, str | None] = {"calendars": None}
    if refused:
        more = f"; the first {TOWNS_SHOWN_MAX} are named" if len(refused) > TOWNS_SHOWN_MAX else ""
        parts["calendars"] = f"{len(refused)} towns have mistakes in their files{more}"
    parts |= {f"calendar:{key}": _says_refused(towns, key) for key in refused[:TOWNS_SHOWN_MAX]}
    return parts


def town_health(towns: TownsInForce, key: str) -> Mapping[str, object]:
    """One town: whether it is served, by which files, and what is wrong with those that are there now."""
    in_force = towns.calendar(key)
    found: dict[str, object] = {"town": key, "served": in_force is not None}
    if in_force is not None:
        found["configuration"] = in_force.municipality.digest[:HASH_SHOWN]
    if key in towns.refused:
        found["why"] = _says_refused(towns, key)
        found["mistakes"] = [str(mistake) for mistake in towns.refused[key][:MISTAKES_SHOWN_MAX]]
    return found


def _says_refused(towns: TownsInForce, key: str) -> str:
    holds = "the one before is in force" if towns.calendar(key) else "the town is not served"
    return f"{len(towns.refused[key])} mistakes in its files; {holds}"
