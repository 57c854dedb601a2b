"""The page itself: the template, filled in."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

FIGURE = """<figure class="figure"><div class="scroll"><img src="{{ source }}" alt="{{ caption }}"></div>
<figcaption>{{ caption }}</figcaption></figure>"""


def render(figures: dict[str, str], **values: object) -> str:
    """The page as HTML. figures: data URIs by name; values: everything else that page.html.j2 names."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    template = environment.from_string(FIGURE)
    environment.globals["figure"] = lambda name, caption: Markup(template.render(source=figures[name], caption=caption))
    return environment.get_template("page.html.j2").render(figures=figures, **values)
