"""Faults on demand: trap a message at any one of its accesses, and see that nothing remains.

A canister's own tests can use this to show that their messages are atomic wherever they break.
Count the accesses of a message once, then trap at each of them in turn:

>>> from sqlstable import Canister, Trap
>>> def transfer(canister):
...     with canister.message("update") as message:
...         message.execute("UPDATE account SET balance = balance - 5 WHERE id = 1")
...         message.execute("UPDATE account SET balance = balance + 5 WHERE id = 2")
>>> with Canister() as canister:
...     _ = canister.update("CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER)")
...     _ = canister.update("INSERT INTO account VALUES (1, 10), (2, 0)")
...     before = canister.image()
...     for access_index in range(count_accesses(canister.clone(), transfer)):
...         try:
...             with trap_at(canister, access_index):
...                 transfer(canister)
...         except Trap:
...             assert canister.image() == before
"""
