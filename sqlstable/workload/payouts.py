"""A ledger that pays out by calling a bank: written as if a call were one message, and soundly.

Both canisters are real ones; the call between them is a call of Python, for whose time the ledger
awaits. The bank pays at most once for each key, so that a call without one is a new payment.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from sqlstable.canister.canister import Canister
from sqlstable.canister.message import Message
from sqlstable.ic.words import EngineName

TOKENS: Final = 100
"""What the user has put in."""

SCHEMA: Final = """\
CREATE TABLE account (owner TEXT PRIMARY KEY, tokens INTEGER CHECK (tokens >= 0));
CREATE TABLE payout (key INTEGER PRIMARY KEY, owner TEXT, tokens INTEGER, state TEXT);"""
BANK: Final = "CREATE TABLE paid (key TEXT PRIMARY KEY, owner TEXT, tokens INTEGER)"

OPEN: Final = "INSERT INTO account VALUES ('ada', ?)"
BALANCE: Final = "SELECT tokens FROM account WHERE owner = 'ada'"
TAKE: Final = "UPDATE account SET tokens = tokens - ? WHERE owner = 'ada'"
NOTE: Final = "INSERT INTO payout (owner, tokens, state) VALUES ('ada', ?, 'pending') RETURNING key"
FINISH: Final = "UPDATE payout SET state = 'paid' WHERE key = ? AND state = 'pending'"
PENDING: Final = "SELECT key, tokens FROM payout WHERE state = 'pending'"

_PAY: Final = "INSERT OR IGNORE INTO paid VALUES (?, 'ada', ?)"
_PAID: Final = "SELECT coalesce(sum(tokens), 0) FROM paid"

Mishap = Callable[[Message], None]
"""Happens behind the await."""


@dataclass(slots=True)
class Pair:
    """A ledger and the bank that it calls."""

    ledger: Canister
    bank: Canister
    calls: int = field(default=0, init=False)

    @classmethod
    def opened(cls, engine: EngineName) -> "Pair":
        """Make both, and let the user put tokens in."""
        pair = cls(Canister(engine=engine, trace=":memory:"), Canister(engine=engine))
        pair.bank.update(BANK)
        pair.ledger.update(SCHEMA)
        pair.ledger.update(OPEN, (TOKENS,))
        return pair

    @property
    def tokens(self) -> int:
        """What the user has in the ledger."""
        return int(self.ledger.query(BALANCE).rows[0][0])

    @property
    def paid(self) -> int:
        """What the bank has paid."""
        return int(self.bank.query(_PAID).rows[0][0])

    @property
    def pending(self) -> int:
        """How many payouts are noted, and not finished."""
        return len(self.ledger.query(PENDING).rows)

    def pay(self, tokens: int, key: str | None = None) -> None:
        """Let the bank pay; without a key, once more."""
        self.calls += 1
        self.bank.update(_PAY, (key or f"call {self.calls}", tokens))

    def close(self) -> None:
        """Close both."""
        self.ledger.close()
        self.bank.close()


def pay_first(
    pair: Pair,
    label: str,
    *,
    meanwhile: Callable[[], None] | None = None,
    mishap: Mishap | None = None,
) -> None:
    """Pay, and take the tokens off behind the await.

    Args:
        pair: Ledger and bank.
        label: Of the call.
        meanwhile: What runs while the ledger awaits.
        mishap: What happens behind the await, before the tokens are taken off.
    """
    with pair.ledger.message(label=label) as message:
        [(tokens,)] = message.execute(BALANCE)
        if tokens:
            with message.awaiting():
                if meanwhile is not None:
                    meanwhile()
                pair.pay(tokens)
            message.execute(TAKE, (tokens,))
            if mishap is not None:
                mishap(message)


def note_first(
    pair: Pair,
    label: str,
    *,
    meanwhile: Callable[[], None] | None = None,
    mishap: Mishap | None = None,
) -> None:
    """Take the tokens off and note what is pending, before the await; finish it behind.

    The arguments are those of `pay_first`.

    Examples:
        >>> pair = Pair.opened("native")
        >>> note_first(pair, "ada asks")
        >>> pair.tokens, pair.paid, pair.pending
        (0, 100, 0)
    """
    with pair.ledger.message(label=label) as message:
        with message.transaction():
            [(tokens,)] = message.execute(BALANCE)
            if not tokens:
                return
            message.execute(TAKE, (tokens,))
            [(key,)] = message.execute(NOTE, (tokens,))
        with message.awaiting():
            if meanwhile is not None:
                meanwhile()
            pair.pay(tokens, f"payout {key}")
        message.execute(FINISH, (key,))
        if mishap is not None:
            mishap(message)


def go_on(pair: Pair, label: str) -> None:
    """Go on with what is pending; the bank knows the key."""
    for key, tokens in pair.ledger.query(PENDING).rows:
        with pair.ledger.message(label=label) as message:
            with message.awaiting():
                pair.pay(tokens, f"payout {key}")
            message.execute(FINISH, (key,))
