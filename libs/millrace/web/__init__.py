"""Pages of a room: `pages` gives the base layout and the filters, `guard` protects every button, `svg` draws."""

from millrace.web.csrf import guard
from millrace.web.pages import Pages, pages

__all__ = ["Pages", "guard", "pages"]
