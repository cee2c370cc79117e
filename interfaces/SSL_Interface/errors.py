"""What an interface says when it is given something that it cannot take."""


class InterfaceError(ValueError):
    """A wrong argument: which one, what was expected and what was found.

    Args:
        where: the interface and its argument, e.g. ``"hconv: states"``.
        expected: what would have been right.
        found: what was given.
    """

    def __init__(self, where: str, expected: str, found: object) -> None:
        super().__init__(f"{where}: expected {expected}, found {found}")
        self.where = where
        self.expected = expected
        self.found = found
