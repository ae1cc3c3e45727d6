"""The command `mixmae recipes`. Imports no torch."""

from rich.table import Table

from mixmae.fields.console import AsJson, print_json, show


def recipes(as_json: AsJson = False) -> None:
    """List the recipes that a file can name as its base."""
    from mixmae.experiment.recipes.headers import header, names

    headers = [header(name) for name in names()]
    if as_json:
        print_json(recipes=headers)
        return
    table = Table("recipe", "about", "accuracy")
    for recipe in headers:
        table.add_row(recipe["name"], recipe["title"], recipe["accuracy"])
    show(table)
