"""What the readers of expressions raise: which field, what was found, what is expected."""

from __future__ import annotations

from streams.core.refusal import Refusal


class ExpressionError(ValueError):
    """A part of a spec that cannot be read. ``check_spec`` makes a refusal of it."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason)
        self.field = field
        """The field of the spec, such as ``expression``."""

    def refusal(self) -> Refusal:
        """Return it as the fold answers it."""
        return Refusal(f"bad_{self.field}", str(self))
