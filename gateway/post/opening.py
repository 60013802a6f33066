"""The post of an installation, as its settings have it."""

from collections.abc import Callable
from pathlib import Path

from gateway.installation import PURPOSE, REHEARSAL, Installation, home, secrets_folder
from gateway.municipality import Municipality
from gateway.post.delivery import Delivery, FolderDelivery, SmtpDelivery
from gateway.post.mail import NO_SENDER
from gateway.post.printing import Press
from gateway.post.worker import Log, Post

# A rehearsal's orders are for nobody's kitchen: they stay on this machine, whatever mail server the settings name.
REHEARSAL_FOLDER = Path("var/mail")


async def open_post(house: Installation, town_of: Callable[[str], Municipality | None], log: Log) -> Post:
    delivery = await delivery_of(house)
    return Post(house.store, town_of, delivery, Press(), house.now, log, house.settings.mail.together)


async def delivery_of(house: Installation) -> Delivery | None:
    """Where this installation's orders go; None where nothing is configured, and orders wait."""
    settings, here = house.settings.mail, home(house.configuration.folder)
    sender = settings.sender or NO_SENDER
    if await house.store.get_setting(PURPOSE) == REHEARSAL:
        return FolderDelivery(here / REHEARSAL_FOLDER, sender)
    if settings.folder is not None:
        return FolderDelivery(here / settings.folder, sender)
    if settings.host is not None:
        ca_file = None if settings.ca_file is None else here / settings.ca_file
        return SmtpDelivery(settings.model_copy(update={"ca_file": ca_file}), secrets_folder(house.configuration))
    return None
