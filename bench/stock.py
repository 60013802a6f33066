"""The reference for our FastAGI server: panoramisk as it comes, on uvloop, sending the same commands without a thought."""

import asyncio
import json
import sys
from pathlib import Path

import uvloop
from panoramisk.fast_agi import Application, Request


async def serve(port: int, commands: list[str]) -> None:
    async def line(request: Request) -> None:
        for command in commands:
            await request.send_command(command)

    application = Application(loop=asyncio.get_running_loop())
    application.add_route("line", line)
    server = await asyncio.start_server(application.handler, "127.0.0.1", port)
    sys.stdout.write("serving\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text())))
