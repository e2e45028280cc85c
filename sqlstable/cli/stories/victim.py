"""The process that is killed: it answers transfers, begins one more message, and waits for its end.

    python -m sqlstable.cli.stories.victim IMAGE ENGINE TRANSFERS

Says on stdout what it has recorded, a line of JSON each: ``answered`` with the number of a
transfer, then ``half_way`` with what the open message has touched and what lies in the heap. Ends
by itself, without finishing that message, when its input does: so it never outlives its parent.
"""

import json
import os
import sys
from typing import cast

from sqlstable.canister.canister import Canister
from sqlstable.canister.message import Message
from sqlstable.ic.words import EngineName
from sqlstable.workload import bank


def live(image: str, engine: EngineName, transfers: int) -> None:
    """Answer transfers, and stop in the middle of the message behind them."""
    with Canister(image, engine=engine) as canister:
        canister.update(bank.SESSION)
        cached: set[int] = set()
        first = 1 + int(canister.query(bank.LAST_TRANSFER).rows[0][0])
        for number in range(first, first + transfers):
            reply = bank.send(canister, number)
            cached.update(reply.footprint.accessed.tolist())
            _tell("answered", number)

        def half_way(message: Message) -> None:
            touched = canister.memory.store.bytemap
            # Copied before anything else is asked.
            accessed, dirty = sorted(touched.accessed), sorted(touched.dirty)
            _tell(
                "half_way",
                {
                    "accessed": accessed,
                    "dirty": dirty,
                    "cached": sorted(cached.union(accessed)),
                    "account_count": message.execute(bank.ACCOUNTS)[0][0],
                    "total_cents": message.execute(bank.TOTAL)[0][0],
                },
            )
            sys.stdin.read()
            # Whoever was to kill this process is gone. It must not go on, and has nothing to say.
            os._exit(0)

        bank.charge(canister, half_way)


def _tell(word: str, value: object) -> None:
    sys.stdout.write(json.dumps({word: value}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    live(sys.argv[1], cast("EngineName", sys.argv[2]), int(sys.argv[3]))
