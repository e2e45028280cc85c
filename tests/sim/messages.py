"""Messages, what they make of an image, and processes that send them, over simulated files."""

import struct
from dataclasses import dataclass
from itertools import count

from sqlstable.ic.units import OS_PAGE_BYTES, WASM_PAGE_BYTES
from sqlstable.memory.image.belonging import find_misfit, may_lack_sectors, pending_records
from sqlstable.memory.image.commitlog import LogHeader, read_header, read_records
from sqlstable.memory.image.durable import CommitPipeline, PageChange, apply_records
from tests.sim.storage import Fault, Killed, Storage, cuts

IMAGE, LOG = "image", "image-log"


@dataclass(frozen=True)
class Message:
    """What one message writes: OS pages by number, each filled with a byte or with a text."""

    wasm_pages: int
    pages: dict[int, bytes]
    is_wiped: bool = False


def filled(*texts):
    """An OS page; the same texts give the same bytes."""
    seed = repr(texts).encode()
    return (seed * (OS_PAGE_BYTES // len(seed) + 1))[:OS_PAGE_BYTES]


class Staged:
    """The staging backing of one message."""

    def __init__(self, pages):
        self.pages = pages

    def read(self, address, length):
        numbers = range(address >> 12, (address + length) >> 12)
        return b"".join(self.pages[number] for number in numbers)


def models(messages):
    """The images before the first message, and after each."""
    image = bytearray()
    found = [b""]
    for message in messages:
        if message.is_wiped:
            image.clear()
        image.extend(bytes(message.wasm_pages * WASM_PAGE_BYTES - len(image)))
        for number, data in message.pages.items():
            image[number << 12 : (number + 1) << 12] = data
        found.append(bytes(image))
    return found


def change_of(message, wasm_pages_before):
    return PageChange(
        [*message.pages],
        Staged(message.pages),
        wasm_pages_before,
        message.wasm_pages,
        message.is_wiped,
    )


BOOT = b"this system now."
EARLIER_BOOT = b"before the power"


def look(storage, *, boot=BOOT):
    """Whether the log continues the image: its header, records, which are pending, the misfit."""
    image, log = storage.names[IMAGE], storage.names[LOG]
    header = read_header(log, LOG)
    records = [] if header is None else read_records(log, header, LOG)
    if not records:
        return header, [], [], None
    lacks = may_lack_sectors(records, header, boot)
    misfit = find_misfit(image, log, records, header, lacks_sectors=lacks)
    return header, records, pending_records(records, lacks_sectors=lacks), misfit


def replay(storage, *, is_flushed=False, boot=BOOT):
    """Bring the image up to date with its log, as recovery does; returns what was pending."""
    image, log = storage.names[IMAGE], storage.names[LOG]
    header, records, pending, misfit = look(storage, boot=boot)
    assert misfit is None, misfit
    if header is not None:
        is_flushed = is_flushed or header.durability == "power"
        apply_records(image, log, records, header, pending=pending, is_flushed=is_flushed)
    return pending


def open_simulated(storage, durability, log_id, *, boot=BOOT):
    """Do what opening an image for writing does, over simulated files."""
    is_flushed = durability == "power"
    image = storage.names.get(IMAGE) or storage.create(IMAGE)
    if LOG in storage.names:
        replay(storage, is_flushed=is_flushed, boot=boot)
        storage.unlink(LOG)
        if is_flushed:
            storage.flush_folder()
    log = storage.create(LOG)
    header = LogHeader(durability, 42, log_id, boot)
    log.write(0, [header.encode()])
    if is_flushed:
        image.flush()
        log.flush()
        storage.flush_folder()
    return CommitPipeline(
        image,
        log,
        header=header,
        read=lambda address, length: image.read(address, length).ljust(length, b"\0"),
        on_resized=lambda _: None,
    )


def close_simulated(storage, pipeline):
    assert pipeline.failure is None
    image = storage.names[IMAGE]
    image.resize(image.size())
    pipeline.flush()
    storage.unlink(LOG)
    if pipeline.durability == "power":
        storage.flush_folder()


class Run:
    """One process after the other on one image; knows what may be found after each instant."""

    def __init__(self, messages, durability, storage=None):
        self.messages = messages
        self.durability = durability
        self.storage = Storage() if storage is None else storage
        self.images = models(messages)
        self.answered = 0
        self.in_flight = False
        self.log_ids = count(1)
        self.boot = BOOT

    @property
    def allowed(self):
        """The images that may be found now."""
        return self.images[self.answered : self.answered + 1 + self.in_flight]

    def open(self):
        log_id = struct.pack("<QQ", 7, next(self.log_ids))
        self.pipeline = open_simulated(self.storage, self.durability, log_id, boot=self.boot)
        image = bytes(self.storage.names[IMAGE].live)
        assert image in self.allowed
        if image != self.allowed[0]:
            # What was in flight when the process ended is there, and stays there.
            self.answered += 1
        self.in_flight = False

    def go_on(self, stop=None):
        """Send the messages that were not answered yet."""
        for message in self.messages[self.answered : stop]:
            self.send(message)

    def send(self, message):
        size_bytes = len(self.images[self.answered])
        self.in_flight = True
        self.pipeline.commit(change_of(message, size_bytes // WASM_PAGE_BYTES))
        self.answered += 1
        self.in_flight = False
        assert bytes(self.storage.names[IMAGE].live) == self.images[self.answered]


def page(*texts, at=0):
    return {at: filled(*texts)}


GROW = Message(1, page("first"))
SCRIPTS = {
    "the same OS page again and again": [GROW, *(Message(1, page(i)) for i in range(4))],
    "different OS pages": [GROW, *(Message(1, page(i, at=i)) for i in range(1, 5))],
    "an OS page inside first, then as a witness": [
        Message(1, {i: filled("a", i) for i in (3, 5, 6)}),
        Message(1, page("b", at=5)),
        Message(1, {5: filled("c"), 6: filled("c")}),
    ],
    "records shrink": [
        Message(1, {i: filled("long", i) for i in (1, 2, 3, 4)}),
        Message(1, page("short")),
        Message(1, page("shorter", at=2)),
    ],
    "records grow": [GROW, Message(1, {i: filled("long", i) for i in (0, 2, 3)}), GROW],
    "growth": [GROW, Message(2, {}), Message(3, page("third", at=33)), Message(3, page("x"))],
    "wiped and written again": [
        Message(2, {0: filled("old"), 17: filled("old")}),
        Message(1, page("new"), is_wiped=True),
        Message(1, page("newer")),
        Message(2, page("far", at=17)),
    ],
    "wiped to nothing": [
        Message(2, {0: filled("old"), 17: filled("old")}),
        Message(0, {}, is_wiped=True),
        Message(2, page("far", at=17)),
        Message(2, page("zeros before", at=18)),
    ],
    "equal bytes": [Message(1, page("same")), Message(1, page("other")), Message(1, page("same"))],
    "records with equal ends": [Message(1, {3: filled(i), 4: filled("equal")}) for i in range(3)],
}


def endings(script, durability):
    """Run a script as often as it has places to be killed at; yields each run, killed there."""
    plain = Run(script, durability)
    plain.open()
    plain.go_on()
    close_simulated(plain.storage, plain.pipeline)
    for at, call in enumerate(plain.storage.calls):
        for done in cuts(call.length) if call.kind == "write" else (0, None):
            run = Run(script, durability)
            run.storage.fault = Fault(at, error=None, done=done)
            try:
                run.open()
                run.go_on()
                close_simulated(run.storage, run.pipeline)
            except Killed:
                run.storage.fault = None
                yield run
                continue
            raise AssertionError(at)
