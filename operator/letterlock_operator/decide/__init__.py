"""Decisions: pure functions of what was observed and of an explicit `now`.

No clock, no network, no log, no randomness, no event loop. The same for the operator and for `letterlock up`.
"""

from letterlock_operator.decide.whole import NOTHING, Memo, decide, decide_again

__all__ = ["NOTHING", "Memo", "decide", "decide_again"]
