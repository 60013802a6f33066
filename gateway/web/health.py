"""What a monitor asks: `/health` (how we are, and why), `/ready` (send us calls?), `/metrics` (Prometheus)."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

from aiohttp import web

# A monitor asks with a few hundred bytes and without a body.
BODY_BYTES_MAX = 1024

# Prometheus' text format, https://prometheus.io/docs/instrumenting/exposition_formats/
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# Each part of the house by name: None while it is well, else what is wrong and what holds meanwhile.
Health = Mapping[str, str | None]


def health_app(
    health: Callable[[], Awaitable[Health]],
    is_ready: Callable[[], bool],
    metrics_text: Callable[[], bytes],
    nodes: Callable[[], Sequence[Mapping[str, object]]] = tuple,
) -> web.Application:
    """The three pages. Nothing personal and nothing secret stands on them."""

    async def show_health(_: web.Request) -> web.Response:
        parts = await health()
        wrong = {name: why for name, why in parts.items() if why is not None}
        body = {
            "status": "degraded" if wrong else "ok",
            "parts": {name: parts[name] or "ok" for name in parts},
            "nodes": [dict(node) for node in nodes()],
        }
        # A doubtful clock or a refused edit is no reason to be taken out of service: the line goes on.
        return web.json_response(body, headers={"Cache-Control": "no-store"})

    async def show_ready(_: web.Request) -> web.Response:
        ready = is_ready()
        return web.json_response({"ready": ready}, status=200 if ready else 503, headers={"Cache-Control": "no-store"})

    async def show_metrics(_: web.Request) -> web.Response:
        return web.Response(body=metrics_text(), headers={"Content-Type": METRICS_TYPE})

    app = web.Application(client_max_size=BODY_BYTES_MAX)
    app.router.add_get("/health", show_health)
    app.router.add_get("/ready", show_ready)
    app.router.add_get("/metrics", show_metrics)
    return app
