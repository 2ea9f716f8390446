"""What a relay has to do, once for all of its engines. Each file of `table/` has the scenarios of one rule."""

from tests.scenarios.scenario import Scenario
from tests.scenarios.table.admission import ADMISSION, REFUSALS
from tests.scenarios.table.ends import ENDS
from tests.scenarios.table.games import GAMES
from tests.scenarios.table.guesses import BY_PROGRAM, GUESSES
from tests.scenarios.table.moments import MOMENTS
from tests.scenarios.table.moves import MOVES
from tests.scenarios.table.rates import RATES
from tests.scenarios.table.sources import SOURCES

SCENARIOS: dict[str, Scenario] = {
    **GAMES,
    **MOVES,
    **RATES,
    **GUESSES,
    **BY_PROGRAM,
    **SOURCES,
    **ENDS,
    **ADMISSION,
    **REFUSALS,
    **MOMENTS,
}
"""By what they show."""
