"""A gateway's post in a process of its own, to be killed: `post_child.py DATABASE_URL PORT_OF_MAIL_SERVER`."""

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from gateway.logs import configure, get_log
from gateway.post.delivery import SmtpDelivery
from gateway.post.printing import Press
from gateway.post.worker import Log, Post
from gateway.settings import MailSettings
from gateway.store.engine import open_store
from tests.orders import municipality


async def work(url: str, port: int) -> None:
    store = await open_store(url)
    settings = MailSettings(host="127.0.0.1", port=port, security="none", sender="mensa@example.org", timeout_s=20)
    delivery = SmtpDelivery(settings, Path("/nowhere"))
    towns = {town.key: town for town in (municipality(),)}
    await Post(store, towns.get, delivery, Press(), lambda: datetime.now(UTC), cast(Log, get_log())).run()


if __name__ == "__main__":
    configure(as_json=True)
    asyncio.run(work(sys.argv[1], int(sys.argv[2])))
