"""A ledger that pays twice across an await, and the same one written soundly.

An account holds tokens, and another canister, the bank, pays them out. The call to it is an await:
what the ledger did before is committed there, other messages run before it goes on, and a trap
behind it undoes nothing of what came before, least of all what the bank has paid.

Both ledgers live through the same: a trap behind the await and a user who asks again, a user who
asks twice at a time, a bank that refuses, and an upgrade. What was paid is counted.

    python examples/await_ledger.py
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import sqlstable

OWNERS = ("ada", "ben", "cleo")
DEPOSIT = 100

SCHEMA = """
CREATE TABLE account (owner TEXT PRIMARY KEY, tokens INTEGER NOT NULL CHECK (tokens >= 0));
CREATE TABLE payout (key INTEGER PRIMARY KEY, owner TEXT, tokens INTEGER, state TEXT);
"""
BANK = "CREATE TABLE paid (key TEXT PRIMARY KEY, owner TEXT, tokens INTEGER)"

BALANCE = "SELECT tokens FROM account WHERE owner = ?"
CREDIT = "UPDATE account SET tokens = tokens + ? WHERE owner = ?"
DEBIT = "UPDATE account SET tokens = tokens - ? WHERE owner = ?"
PENDING = "INSERT INTO payout (owner, tokens, state) VALUES (?, ?, 'pending') RETURNING key"
FINISH = "UPDATE payout SET state = ? WHERE key = ? AND state = 'pending' RETURNING tokens"
LEFT_OPEN = "SELECT key, owner, tokens FROM payout WHERE state = 'pending'"

Meanwhile = Callable[[], object]


class BankError(Exception):
    """The bank did not pay, for certain."""


@dataclass
class World:
    """A ledger, the bank that it calls, and what is to go wrong next."""

    ledger: sqlstable.Canister = field(default_factory=sqlstable.Canister)
    bank: sqlstable.Canister = field(default_factory=sqlstable.Canister)
    traps: bool = False
    "Whether the ledger traps behind its next await."
    is_bank_down: bool = False
    calls: int = 0

    def __post_init__(self) -> None:
        self.bank.update(BANK)
        self.ledger.update(SCHEMA)
        with self.ledger.message() as message:
            accounts = [(owner, DEPOSIT) for owner in OWNERS]
            message.executemany("INSERT INTO account VALUES (?, ?)", accounts)

    def pay(self, owner: str, tokens: int, key: str | None = None) -> None:
        """Pay, at most once for each key; a call without one is a new payment."""
        if self.is_bank_down:
            raise BankError("the bank refuses")
        self.calls += 1
        row = (key or f"call {self.calls}", owner, tokens)
        self.bank.update("INSERT OR IGNORE INTO paid VALUES (?, ?, ?)", row)

    def may_trap(self, message: sqlstable.Message) -> None:
        """Trap, if it is time to."""
        if self.traps:
            self.traps = False
            message.trap("a mistake behind the await")


# --- the one that pays twice ---------------------------------------------------------------


def naive(world: World, owner: str, meanwhile: Meanwhile | None = None) -> None:
    """Pay, and take the tokens off behind the await."""
    with world.ledger.message(label="naive") as message:
        [(tokens,)] = message.execute(BALANCE, (owner,))
        if tokens == 0:
            return
        with message.awaiting():
            if meanwhile is not None:
                meanwhile()
            world.pay(owner, tokens)
        world.may_trap(message)
        message.execute(DEBIT, (tokens, owner))


def nothing(world: World) -> None:
    """Have nothing to go on with: nobody noted what was paid."""


# --- the same, written soundly -------------------------------------------------------------


def sound(world: World, owner: str, meanwhile: Meanwhile | None = None) -> None:
    """Take the tokens off and note what is pending, in one transaction before the await."""
    with world.ledger.message(label="sound") as message:
        with message.transaction():
            [(tokens,)] = message.execute(BALANCE, (owner,))
            if tokens == 0:
                return
            message.execute(DEBIT, (tokens, owner))
            [(key,)] = message.execute(PENDING, (owner, tokens))
        settle(world, message, (key, owner, tokens), meanwhile)


def settle(
    world: World,
    message: sqlstable.Message,
    payout: tuple[int, str, int],
    meanwhile: Meanwhile | None = None,
) -> None:
    """Ask the bank under the payout's own key; then finish it, or undo it where it was refused."""
    key, owner, tokens = payout
    try:
        with message.awaiting():
            if meanwhile is not None:
                meanwhile()
            world.pay(owner, tokens, key=f"payout {key}")
    except BankError:
        with message.transaction():
            # Only one of those who may try to: the others find it done.
            if message.execute(FINISH, ("refused", key)):
                message.execute(CREDIT, (tokens, owner))
    else:
        world.may_trap(message)
        message.execute(FINISH, ("paid", key))


def resume(world: World) -> None:
    """Go on with what is pending: with the same key the bank pays nothing twice."""
    for payout in world.ledger.query(LEFT_OPEN).rows:
        with world.ledger.message(label="resume") as message:
            settle(world, message, payout)


# --- what both live through ----------------------------------------------------------------


@dataclass(frozen=True)
class Account:
    """What became of one owner's tokens."""

    owner: str
    paid: int
    left: int
    pending: int

    @property
    def is_right(self) -> bool:
        """Whether no token came from nowhere, and none is gone; what is pending may be paid."""
        known = self.paid + self.left
        return known <= DEPOSIT <= known + self.pending


@dataclass(frozen=True)
class Outcome:
    """One ledger's life."""

    errors: tuple[str, ...]
    "What the users were told, in order."
    before_resuming: tuple[Account, ...]
    accounts: tuple[Account, ...]


Withdraw = Callable[[World, str, Meanwhile | None], None]


def live(withdraw: Withdraw, go_on: Callable[[World], None]) -> Outcome:
    """Let a ledger live through everything."""
    world, errors = World(), []

    def ask(owner: str, meanwhile: Meanwhile | None = None) -> None:
        try:
            withdraw(world, owner, meanwhile)
        except (sqlstable.Trap, sqlstable.SqlError, BankError) as error:
            errors.append(f"{owner}: {str(error).partition('; in:')[0]}")

    world.traps = True
    ask("ada")
    ask("ada")
    ask("ben", lambda: ask("ben"))
    world.is_bank_down = True
    ask("cleo")
    world.is_bank_down = False
    ask("cleo")
    world.ledger.upgrade()
    before = counted(world)
    go_on(world)
    found = Outcome(tuple(errors), before, counted(world))
    world.ledger.close()
    world.bank.close()
    return found


def counted(world: World) -> tuple[Account, ...]:
    """Count each owner's tokens in both canisters."""
    sums = "SELECT coalesce(sum(tokens), 0) FROM "
    found = []
    for owner in OWNERS:
        [(paid,)] = world.bank.query(sums + "paid WHERE owner = ?", (owner,)).rows
        [(left,)] = world.ledger.query(BALANCE, (owner,)).rows
        pending = sums + "payout WHERE state = 'pending' AND owner = ?"
        [(waiting,)] = world.ledger.query(pending, (owner,)).rows
        found.append(Account(owner, paid, left, waiting))
    return tuple(found)


def main() -> dict[str, Outcome]:
    """Let both ledgers live, print what became of the tokens, and return it."""
    outcomes = {"naive": live(naive, nothing), "sound": live(sound, resume)}
    print(f"Each of {len(OWNERS)} users had {DEPOSIT} tokens, and withdrew them across an await.")
    print("ada    a trap behind the await; she asks again")
    print("ben    asks again while his first call awaits")
    print("cleo   the bank refuses; she asks again")
    for name, outcome in outcomes.items():
        print(f"\n{name}")
        for error in outcome.errors:
            print(f"  told  {error}")
        stages = {"after an upgrade": outcome.before_resuming, "at the end": outcome.accounts}
        for stage, accounts in stages.items():
            print(f"  {stage:<16}   paid  left  pending")
            for it in accounts:
                verdict = "" if it.is_right else f"   wrong: {DEPOSIT} were deposited"
                print(f"    {it.owner:<15}{it.paid:>6}{it.left:>6}{it.pending:>9}{verdict}")
    return outcomes


if __name__ == "__main__":
    main()
