"""Change the schema of a canister that goes on working: a table is copied while it is written.

A shop keeps prices as text, and wants them as numbers of cents. The table is copied by messages
while the shop sells on; then one upgrade brings the new code and the new schema together.

    python examples/change_the_schema.py
"""

import sqlstable

OLD = """
CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT NOT NULL, price TEXT);
CREATE TABLE coupon (code TEXT PRIMARY KEY);
"""

NEW = """
CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT NOT NULL, price INTEGER);
"""


def main() -> dict[str, int]:
    """Migrate, write meanwhile, and return what was sold and what costs 7 afterwards."""
    with sqlstable.Canister() as canister:
        canister.update(OLD)
        with canister.message() as message, message.transaction():
            rows = [(f"item {number}", str(100 + number)) for number in range(5000)]
            message.executemany("INSERT INTO item (name, price) VALUES (?, ?)", rows)
        canister.update("INSERT INTO coupon VALUES ('SPRING')")

        print("The old code goes on selling while rows are copied:")
        sold = 0

        def sell(message: object) -> None:
            nonlocal sold
            sold += 1
            canister.update("UPDATE item SET price = '7' WHERE id = ?", (sold,))

        report = canister.migrate(NEW, rows_per_message=2000, switch=False, on_message=sell)
        for one in report.messages:
            print(f"  {one.doing:8} {one.rows:5} rows")
        print(f"  {sold} items were sold meanwhile")

        print("One upgrade brings up to date what was written, and switches:")
        for note in canister.upgrade(schema=NEW).notes:
            print(f"  {note}")
        sevens = canister.query("SELECT count(*) FROM item WHERE price = 7").rows[0][0]
        print(f"  {sevens} items cost 7, as a number")

        print("The table that the new schema leaves out is read, and not written:")
        try:
            canister.update("INSERT INTO coupon VALUES ('AUTUMN')")
        except sqlstable.SqlError as error:
            print(f"  {str(error).partition(';')[0]}")
        try:
            canister.remove_table("coupon")
        except sqlstable.MigrationError as error:
            print(f"  {str(error).partition(';')[0]}")
        print("  " + canister.upgrade(schema=NEW).notes[0])
        canister.remove_table("coupon")
        print("  removed, because somebody said so")
        return {"sold": sold, "sevens": sevens}
        return {"sold": sold, "sevens": sevens}


if __name__ == "__main__":
    main()
