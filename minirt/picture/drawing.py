"""One call from networks and records to a drawing in any of the formats."""

from __future__ import annotations

from collections.abc import Sequence

from minirt.netadmin.catalog import Catalog
from minirt.picture import scheme, survey, svg, text
from minirt.state import Record


def draw(catalog: Catalog, records: Sequence[Record], network: str, form: str) -> str:
    """The picture of `network`, or of all when it is empty, as text, mermaid, dot or svg. Raises NotFound."""
    picture = survey.take(catalog, records, network)
    if form == "text":
        return text.draw(picture)
    cards = scheme.of(picture)
    return {"mermaid": scheme.mermaid, "dot": scheme.dot, "svg": svg.draw}[form](cards)
