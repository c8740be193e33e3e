"""The templates of the pages and pictures that `convert` writes; every name in them is text by a stranger."""

from jinja2 import Environment, PackageLoader, StrictUndefined


def templates() -> Environment:
    """Return the templates of this package: names are escaped, and one that is not there is an error."""
    return Environment(
        loader=PackageLoader("convert"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
