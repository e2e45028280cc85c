"""Three versions of a shop: hooks save what is in the heap, and a broken version changes nothing.

Carts are kept in a TEMP table, which is heap: it dies in an upgrade. The first version forgets
them. The second one saves them before an upgrade and fills them again behind it; the third one
has a mistake in its post_upgrade, and the canister goes on with the second.

    python examples/upgrade_hooks.py
"""

from dataclasses import dataclass

import sqlstable

CART = "CREATE TEMP TABLE IF NOT EXISTS cart (customer TEXT, item TEXT)"
CUSTOMERS = 40


def init(message: sqlstable.HookMessage) -> None:
    """Make the tables of the first version."""
    message.execute("CREATE TABLE saved_cart (customer TEXT, item TEXT)")
    message.execute(CART)


def forget(message: sqlstable.HookMessage) -> None:
    """Make an empty table of carts."""
    message.execute(CART)


def save(message: sqlstable.HookMessage) -> None:
    """Copy the carts from the heap into stable memory."""
    message.execute("INSERT INTO saved_cart SELECT customer, item FROM cart")


def restore(message: sqlstable.HookMessage) -> None:
    """Fill the carts again."""
    message.execute(CART)
    message.execute("INSERT INTO cart SELECT customer, item FROM saved_cart")
    message.execute("DELETE FROM saved_cart")


def broken(message: sqlstable.HookMessage) -> None:
    """Lose what was saved, and then trap."""
    message.execute("DELETE FROM saved_cart")
    message.execute("INSERT INTO carts SELECT * FROM saved_cart")


FIRST = sqlstable.Hooks(init=init, post_upgrade=forget)
SECOND = sqlstable.Hooks(pre_upgrade=save, post_upgrade=restore)
THIRD = sqlstable.Hooks(pre_upgrade=save, post_upgrade=broken)


@dataclass(frozen=True)
class Version:
    """What an upgrade came to."""

    what: str
    outcome: str
    carts: int
    "Customers with a cart, behind it."
    parts: tuple[sqlstable.Part, ...] = ()


def filled(shop: sqlstable.Canister) -> None:
    """Put something into each customer's cart, but for those who have one."""
    if shop.query("SELECT count(*) FROM cart").rows == [(0,)]:
        items = [(f"customer {number}", "needle") for number in range(CUSTOMERS)]
        with shop.message("update") as message:
            message.executemany("INSERT INTO cart VALUES (?, ?)", items)


def upgraded(shop: sqlstable.Canister, what: str, code: sqlstable.Hooks) -> Version:
    """Upgrade to other code, and count the carts."""
    outcome, parts = "committed", ()
    try:
        parts = shop.upgrade(hooks=code).parts
    except sqlstable.SqlError as error:
        outcome = f"failed: {error}".partition(";")[0]
    return Version(what, outcome, shop.query("SELECT count(*) FROM cart").rows[0][0], parts)


def main() -> list[Version]:
    """Upgrade the shop four times, and print what became of the carts."""
    found = []
    with sqlstable.Canister(engine="wasm", hooks=FIRST) as shop:
        for what, code in (
            ("the first version again", FIRST),
            ("the second version", SECOND),
            ("the second version again", SECOND),
            ("a third version, broken", THIRD),
        ):
            filled(shop)
            found.append(upgraded(shop, what, code))
    print(f"{CUSTOMERS} customers have carts, in a TEMP table of the heap.\n")
    for version in found:
        print(f"upgrade to {version.what}: {version.outcome}, {version.carts} carts")
        for part in version.parts:
            print(
                f"  {part.name:12} {part.os_pages_accessed:3} OS pages accessed,"
                f" {part.os_pages_dirty} dirty, {part.instructions:9,} instructions"
            )
    print("""
What the old code saves, the new one finds: pre_upgrade is the old code's, so the carts
survive only from the second upgrade on. The third version traps, and everything is as
it was: its post_upgrade had deleted what was saved, and even that is taken back.""")
    return found


if __name__ == "__main__":
    main()
