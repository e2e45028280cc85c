"""How a canister shows itself to Python."""

from typing import NoReturn

from sqlstable.canister.life import Life
from sqlstable.errors import MessageError
from sqlstable.ic.units import amount


class Presence:
    """How a canister shows itself to Python, and that it is nowhere but in its process."""

    _life: Life

    def __repr__(self) -> str:
        """Say where stable memory is, which engine runs, and how far it has come."""
        machine = self._life.machine
        image_file = machine.memory.image_file
        place = "in memory" if image_file is None else image_file.name
        state = "closed" if self._life.is_closed else "open"
        messages = amount(self._life.observation.message_count, "message")
        engine = f"{machine.name} engine"
        return f"<{type(self).__name__} {place}: {engine}, {state}, {messages}>"

    def __reduce__(self) -> NoReturn:
        """Be copied and pickled by nobody.

        Raises:
            MessageError: Always.
        """
        raise MessageError(
            "a canister stays in its process; open its image there, once it is closed here"
        )
