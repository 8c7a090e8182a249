"""Other ways to do the same two stages, each in a process of its own, with the same weights and texts.

catalog.py       who they are, what each needs, and which of its documented settings it is given
environments.py  a virtual environment for each that does not get along with ours
staging.py       our artifacts as the folders they expect
process.py       one of them, running: texts in, milliseconds and scores out
children/        what runs over there: scripts that know nothing of Tandem
"""

from .catalog import DEFAULT, RIVALS, Spec
from .environments import ENVIRONMENTS
from .process import Rival, check_known, running

__all__ = ["DEFAULT", "ENVIRONMENTS", "RIVALS", "Rival", "Spec", "check_known", "running"]
