"""A FastAGI program for tests of the dialplan and the harness: as little as a gateway can be, driven by a script.

`python agi_program.py PORT NOTES SCRIPT` serves every call with the JSON list SCRIPT of steps, and appends one JSON line
per event to the file NOTES. Steps: a string is an AGI command (its reply is noted); `["ask", clips, digits]` is one
question as the gateway asks it; `["work", seconds]` waits; `["stop"]` freezes the whole program (SIGSTOP); `["die"]` is
kill -9; `["leave"]` closes the connection at once. `/hungup` notes the variables left behind and sets IVR_ENDED.
"""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

NOTES = Path(sys.argv[2])
HUNG_UP_VARIABLES = ("IVR_ASKED", "IVR_REQUEST", "IVR_KEYS", "IVR_SAVED", "IVR_DIALLED")


def note(event: str, **values: Any) -> None:
    with NOTES.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"event": event, **values}) + "\n")


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    header: dict[str, str] = {}
    while line := (await reader.readline()).decode("utf-8", "replace").strip():
        name, _, value = line.partition(": ")
        header[name] = value
    if not header:
        writer.close()
        return

    async def command(text: str) -> str:
        writer.write(text.encode() + b"\n")
        await writer.drain()
        while (reply := await reader.readline()) == b"HANGUP\n":
            note("hangup")
        return reply.decode("utf-8", "replace").strip()

    route = header["agi_network_script"]
    note(
        route, **{name: header[name] for name in ("agi_callerid", "agi_calleridname", "agi_extension", "agi_uniqueid")}
    )
    try:
        if route == "hungup":
            note("left", **{name: await command(f"GET VARIABLE {name}") for name in HUNG_UP_VARIABLES})
            note("ended", reply=await command("SET VARIABLE IVR_ENDED 1"))
        else:
            await play_script(command)
    except ConnectionError:
        note("connection lost")
    writer.close()


async def play_script(command: Any) -> None:
    for step in json.loads(sys.argv[3]):
        match step:
            case str():
                note("reply", command=step, reply=await command(step))
            case ["ask", clips, digits]:
                reply = await command(f"EXEC Read IVR_KEYS,{clips},{digits},,1")
                answer = await command("GET FULL VARIABLE ${IVR_KEYS}|${READSTATUS}")
                note("answer", reply=reply, answer=answer.removeprefix("200 result=1 "))
            case ["work", seconds]:
                await asyncio.sleep(seconds)
            case ["stop"]:
                note("stopping")
                os.kill(os.getpid(), signal.SIGSTOP)
            case ["die"]:
                note("dying")
                os.kill(os.getpid(), signal.SIGKILL)
            case ["leave"]:
                return


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]))
    note("serving")
    await server.serve_forever()


asyncio.run(main())
