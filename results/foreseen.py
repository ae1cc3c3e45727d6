"""What of a grid's figures and expectations could never be shown, known before anything runs (no torch)."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from mixmae.presentation.declaration import Declaration, Expected
from results.cells import STAGE_LABELS, member_ids
from results.declared import meets
from results.plots.forest import declared_reference
from results.reading import COLUMNS


def mistakes(declaration: Declaration) -> Iterator[tuple[tuple, str]]:
    """Yields (path in the grid file, what is wrong and what to write instead): forests whose reference is not one
    setting, and expectations that no run of the grid can meet."""
    nothing = pd.DataFrame(columns=list(COLUMNS))
    for place, plot in enumerate(declaration.plots):
        if plot.kind == "forest":
            try:
                declared_reference(nothing, plot, declaration)
            except ValueError as error:
                yield ("plots", place), str(error)
    ids = member_ids(declaration.members, ())
    for place, expected in enumerate(declaration.expected):
        cases = [case for key in ids if key[0] == expected.stage for case in declaration.full[key]]
        if not any(meets(case, expected.where) for case in cases):
            yield ("expected", place), _unmet(expected, cases)


def _unmet(expected: Expected, cases: list[dict[str, Any]]) -> str:
    """Names the values there are of the first column that none has as asked."""
    label = STAGE_LABELS[expected.stage]
    for column, wanted in expected.where.items():
        if not any(meets(case, {column: wanted}) for case in cases):
            there = sorted({str(case[column]) for case in cases})
            return f"no {label} of this grid has {column} {wanted}; write one of {', '.join(there) or 'those it runs'}"
    where = ", ".join(f"{column} {wanted}" for column, wanted in expected.where.items())
    return f"no {label} of this grid has all of {where}; name fewer"
