"""`mensa sounds`: the clips that only one town needs."""

from dataclasses import asdict

import typer

from gateway.cli_desk import at_the_desk
from gateway.cli_options import CONFIG, ConfigOption, JsonOption, TownOption, choose_town, load_or_exit, print_json
from gateway.installation import Installation, has_database, sounds_folder
from gateway.municipality import Municipality
from gateway.telephone import TownDesks
from gateway.town_clips import make_clips, summary

sounds_app = typer.Typer(no_args_is_help=True, help="The voice of the line.")


@sounds_app.callback()
def sounds() -> None:
    """The voice of the line."""


@sounds_app.command(name="town")
def make_town(config: ConfigOption = CONFIG, town: TownOption = None, as_json: JsonOption = False) -> None:
    """Make the clips of the town's name, its schools', its office's hours and its pupils' first names, where they are missing."""
    configuration = load_or_exit(config, town)
    municipality = choose_town(configuration, town)

    async def names(_: Installation, __: Municipality, desks: TownDesks) -> list[str]:
        return [pupil.name for pupil in await desks.store.all_pupils()]

    known = at_the_desk(config, town, names) if has_database(configuration) else []
    made = make_clips(municipality, known, sounds_folder(configuration.settings))
    if as_json:
        print_json(
            {"town": municipality.key, "made": [asdict(each) for each in made if not each.clip.startswith("name/")]}
        )
    else:
        typer.echo(f"{municipality.key}: {summary(made)}")
