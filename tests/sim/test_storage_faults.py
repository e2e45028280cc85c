"""Storage faults: whatever a loss of power, a kill or a failing call leaves is recovered.

The rule: after recovery the image holds every answered message, at most the one that was in flight
besides, and nothing else; and recovering twice, or after a recovery that was cut off, is the same.

Everything here runs over the simulated files of `tests/sim/storage.py`. The order of calls around
the pipeline, which `open_simulated` makes, is compared with that of real openings in
`tests/test_imagefile.py`.
"""

import errno
import struct
from itertools import count
from random import Random

import pytest

from sqlstable.ic.units import OS_PAGE_BYTES
from sqlstable.memory.image import durable, fingerprint
from sqlstable.memory.image.durable import (
    NotCommittedError,
    PatchedFile,
)
from tests.effort import EFFORT, part_of
from tests.sim.messages import (
    BOOT,
    EARLIER_BOOT,
    GROW,
    IMAGE,
    LOG,
    SCRIPTS,
    Message,
    Run,
    close_simulated,
    endings,
    filled,
    page,
    replay,
)
from tests.sim.storage import SECTOR_BYTES, Fault, Killed, Storage

RANDOM_RUNS = part_of(100)
"""Long random scripts per durability; each is cut at every flush, into some states."""


def assert_recovers(state, allowed, *, boot=BOOT):
    """Recover a folder; once, twice, and in memory only."""
    storage = Storage.of(state)
    if IMAGE not in storage.names:
        # It was being made, and nothing was answered.
        assert b"" in allowed
        return
    image = storage.names[IMAGE]
    if LOG in storage.names:
        pending = replay(storage, boot=boot)
        once = bytes(image.live)
        replay(storage, boot=boot)
        assert bytes(image.live) == once
        if pending:
            untouched = Storage.of(state)
            patched = PatchedFile(untouched.names[IMAGE], untouched.names[LOG], pending)
            assert patched.read(0, patched.size()) == once
    assert bytes(image.live) in allowed


@pytest.fixture(autouse=True)
def _little_is_filled_ahead(monkeypatch):
    """Of a mebibyte of zeros each sector would double the states that are looked at."""
    monkeypatch.setattr(durable, "LOG_FILLED_BYTES", SECTOR_BYTES)


CHECKPOINTS = (1, 8192, 16_384, 1 << 30) if EFFORT >= 1 else (1, 16_384)
"""Bytes of log after which the image is flushed: at each message, at some, never."""


@pytest.fixture(autouse=True)
def short_logs(monkeypatch):
    """Logs that grow by little, so that they are grown often and copied quickly."""
    monkeypatch.setattr(durable, "LOG_FILLED_BYTES", 4096)


# -- loss of power, exhaustively ------------------------------------------------------------------


class PowerSweep:
    """At every flush, recovers from everything that a loss of power may leave."""

    def __init__(self, run, sector_bytes, garbage=b""):
        self.run, self.sector_bytes, self.garbage = run, sector_bytes, garbage
        self.seen = 0

    def watch(self, call):
        if call.kind in ("flush", "flush_folder"):
            self.look()

    def look(self):
        for state in self.run.storage.power_states(self.sector_bytes, self.garbage):
            assert_recovers(state, self.run.allowed, boot=EARLIER_BOOT)
            self.seen += 1


def sweep_power(run, sector_bytes, garbage=b""):
    sweep = PowerSweep(run, sector_bytes, garbage)
    if not garbage:
        run.storage.watch = sweep.watch
    run.open()
    run.storage.watch = sweep.watch
    run.go_on()
    sweep.look()
    close_simulated(run.storage, run.pipeline)
    sweep.look()
    return sweep.seen


@pytest.mark.slow
@pytest.mark.parametrize("checkpoint_bytes", CHECKPOINTS)
@pytest.mark.parametrize("name", SCRIPTS)
def test_every_state_that_a_loss_of_power_may_leave_is_recovered(
    name, checkpoint_bytes, monkeypatch
):
    monkeypatch.setattr(durable, "CHECKPOINT_BYTES", checkpoint_bytes)
    if checkpoint_bytes in CHECKPOINTS[::2]:
        monkeypatch.setattr(durable, "LOG_FILLED_BYTES", 16_384)
    # Half an OS page tears already, with a thousandth of the states of its sectors.
    assert sweep_power(Run(SCRIPTS[name], "power"), sector_bytes=2048) > 50


@pytest.mark.slow
def test_every_state_of_single_sectors_is_recovered(monkeypatch):
    monkeypatch.setattr(durable, "CHECKPOINT_BYTES", 1)
    script = [GROW, Message(1, page("second"))]
    assert sweep_power(Run(script, "power"), sector_bytes=512) > 1000


@pytest.mark.slow
@pytest.mark.parametrize("checkpoint_bytes", CHECKPOINTS)
@pytest.mark.parametrize("name", ["records grow", "equal bytes", "growth"])
def test_a_record_is_not_harmed_by_a_torn_write_behind_it(name, checkpoint_bytes, monkeypatch):
    """Beyond the fault model: a sector of the log that was being written holds anything."""
    monkeypatch.setattr(durable, "CHECKPOINT_BYTES", checkpoint_bytes)
    monkeypatch.setattr(durable, "LOG_FILLED_BYTES", 512)
    assert sweep_power(Run(SCRIPTS[name], "power"), sector_bytes=2048, garbage=b"\xa5") > 50


@pytest.mark.slow
@pytest.mark.parametrize("checkpoint_bytes", CHECKPOINTS)
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_recovery_of_killed_messages_may_itself_lose_power(name, checkpoint_bytes, monkeypatch):
    """First the process is killed, so that nothing more is flushed; then the power goes."""
    monkeypatch.setattr(durable, "CHECKPOINT_BYTES", checkpoint_bytes)
    seen = 0
    for at in count():
        run = Run(SCRIPTS[name], "power")
        run.storage.fault = Fault(at, error=None, done=None)
        try:
            run.open()
            run.go_on()
            break
        except Killed:
            pass
        run.storage.fault = None
        sweep = PowerSweep(run, sector_bytes=4096)
        run.storage.watch = sweep.watch
        # A process that asks for less durability must not take away any.
        run.durability = ("power", "process")[at % 2]
        run.open()
        sweep.look()
        seen += sweep.seen
    assert at > 10
    assert seen > 100


# -- the end of the process, exhaustively ---------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("durability", ["process", "power"])
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_kill_at_any_os_page_of_any_call_is_recovered_and_the_rest_goes_on(
    name, durability, monkeypatch
):
    monkeypatch.setattr(durable, "CHECKPOINT_BYTES", 16_384)
    monkeypatch.setattr(durable, "LOG_BYTES_KEPT", 16_384)
    killed = 0
    for run in endings(SCRIPTS[name], durability):
        killed += 1
        assert_recovers(run.storage.live_state(), run.allowed)
        run.open()
        run.go_on()
        close_simulated(run.storage, run.pipeline)
        assert run.storage.live_state() == {IMAGE: run.images[-1]}
    assert killed > 20


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wiped and written again", "growth", "records shrink"])
def test_a_recovery_that_is_killed_again_and_again_ends_in_the_same_image(name):
    recoveries = 0
    for run in endings(SCRIPTS[name], "process"):
        state, storage = run.storage.live_state(), run.storage
        for at in count():
            run.storage = Storage.of(state)
            run.storage.fault = Fault(at, error=None, done=(0, 4096, None)[at % 3])
            run.log_ids = count(99)
            answered, in_flight = run.answered, run.in_flight
            try:
                run.open()
                break
            except Killed:
                # The next one begins where this one was killed, and gets one call further.
                assert (run.answered, run.in_flight) == (answered, in_flight)
                state = run.storage.live_state()
            recoveries += 1
        run.storage.fault = None
        run.go_on()
        assert run.storage.live_state()[IMAGE] == run.images[-1]
        assert storage is not run.storage
    assert recoveries > 80


# -- everything at once, at random ----------------------------------------------------------------


def random_script(choose):
    """Messages of very different sizes on few OS pages, some of them growing or wiping."""
    messages, wasm_pages = [], 0
    texts = [filled(i) for i in range(3)]
    for number in range(choose.randint(4, 14)):
        is_wiped = number > 0 and choose.random() < 0.08
        if is_wiped:
            wasm_pages = 0
        if wasm_pages == 0 or choose.random() < 0.15:
            wasm_pages += choose.randint(1, 2)
        most = choose.choice((1, 1, 2, 5, 14))
        hot = choose.sample(range(16 * wasm_pages), min(16 * wasm_pages, choose.randint(0, most)))
        pages = {i: choose.choice((*texts, filled(number, i))) for i in hot}
        messages.append(Message(wasm_pages, pages, is_wiped=is_wiped))
    return messages


def cover_part_of_the_image(monkeypatch, seed):
    """As of a large image: of two runs in three the fingerprint covers its beginning only."""
    for module in (durable, fingerprint):
        monkeypatch.setattr(module, "FILLED_OS_PAGES_MAX", (1, 5, 16_384)[seed % 3])


def live_on(run, choose, *, with_power):
    """Let process after process work on the image, each of them cut off, until all is answered."""
    ends = 0
    while True:
        calls_before_the_end = int(choose.expovariate(1 / 15))
        at = len(run.storage.calls) + calls_before_the_end
        done = choose.choice((0, 4096, 8192, None))
        run.storage.fault = Fault(at, error=None, done=done, choose=choose)
        try:
            run.open()
            run.go_on()
            close_simulated(run.storage, run.pipeline)
            break
        except Killed:
            ends += 1
        run.storage.fault = None
        if with_power and choose.random() < 0.7:
            for _ in range(5):
                state = run.storage.sample_power_state(choose)
                assert_recovers(state, run.allowed, boot=EARLIER_BOOT)
            run.storage = Storage.of(run.storage.sample_power_state(choose))
            run.boot = struct.pack("<QQ", 1, ends)
        elif choose.random() < 0.2:
            run.storage.flush_all()
    assert run.storage.live_state() == {IMAGE: run.images[-1]}
    return ends


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(RANDOM_RUNS))
def test_random_scripts_survive_losses_of_power_and_kills(seed, monkeypatch):
    choose = Random(seed)
    monkeypatch.setattr(durable, "CHECKPOINT_BYTES", choose.choice((4096, 20_000, 60_000, 1 << 30)))
    monkeypatch.setattr(durable, "LOG_FILLED_BYTES", choose.choice((4096, 4096, 20_000, 40_000)))
    cover_part_of_the_image(monkeypatch, seed)
    run = Run(random_script(choose), "power")
    live_on(run, choose, with_power=True)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(RANDOM_RUNS))
def test_random_scripts_survive_kills_with_any_durability(seed, monkeypatch):
    choose = Random(seed)
    monkeypatch.setattr(durable, "CHECKPOINT_BYTES", choose.choice((4096, 20_000, 60_000, 1 << 30)))
    monkeypatch.setattr(durable, "LOG_BYTES_KEPT", choose.choice((8192, 30_000, 1 << 30)))
    cover_part_of_the_image(monkeypatch, seed)
    run = Run(random_script(choose), "process")
    live_on(run, choose, with_power=False)


# -- calls that fail ------------------------------------------------------------------------------


def faults_of(call, at):
    """The ways in which one call may fail."""
    if call.kind == "write":
        parts = sorted({0, 100, 216, 512, 4096, 4312, max(call.length - 4096, 0)})
        for done in (*(part for part in parts if part < call.length), None):
            yield Fault(at, errno.ENOSPC, done)
            yield Fault(at, errno.EIO, done, lasts=True)
    elif call.kind == "flush":
        for seed in (None, 1, 2, 3):
            for lasts in (False, True):
                choose = None if seed is None else Random(seed)
                yield Fault(at, errno.EIO, choose=choose, lasts=lasts)
    else:
        for lasts in (False, True):
            yield Fault(at, errno.ENOSPC, lasts=lasts)
            yield Fault(at, errno.EIO, done=None, lasts=lasts)


def assert_only(run, allowed, choose):
    """Whatever ends the process now, this is what is found."""
    assert_recovers(run.storage.live_state(), allowed)
    if run.durability == "power":
        for _ in range(4):
            state = run.storage.sample_power_state(choose)
            assert_recovers(state, allowed, boot=EARLIER_BOOT)


def send_with_faults(run, choose):
    """Send all messages, each until it is answered; returns what the faults did."""
    outcomes = []
    while run.answered < len(run.messages):
        before = run.images[run.answered]
        try:
            run.send(run.messages[run.answered])
        except NotCommittedError:
            failed = run.pipeline.failure is not None
            outcomes.append("unknown" if failed else "refused")
            assert_only(run, run.allowed if failed else [before], choose)
            if not failed:
                # Nothing has happened, and the same message comes through as soon as it can.
                assert bytes(run.storage.names[IMAGE].live) == before
                run.in_flight = False
                run.storage.fault = None
                continue
        except AssertionError:
            # Answered, but the image is not yet as it should be.
            assert run.pipeline.failure is not None
        if run.pipeline.failure is not None:
            if outcomes[-1:] != ["unknown"]:
                outcomes.append("left to the log")
                assert_only(run, [run.images[run.answered]], choose)
            run.storage.fault = None
            run.open()
    return outcomes


@pytest.mark.slow
@pytest.mark.parametrize("durability", ["process", "power"])
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_call_that_fails_refuses_the_message_or_leaves_it_to_the_log(
    name, durability, monkeypatch
):
    monkeypatch.setattr(durable, "CHECKPOINT_BYTES", 16_384)
    monkeypatch.setattr(durable, "LOG_BYTES_KEPT", 16_384)
    plain = Run(SCRIPTS[name], durability)
    plain.open()
    first = len(plain.storage.calls)
    plain.go_on()
    # Space is asked for before anything is written.
    assert plain.storage.calls[first].kind == "reserve" or not plain.messages[0].pages
    outcomes = set()
    for at, call in enumerate(plain.storage.calls):
        for fault in faults_of(call, at) if at >= first else ():
            unit_bytes = OS_PAGE_BYTES if durability == "process" else SECTOR_BYTES
            if call.name == IMAGE and (fault.done or 0) % unit_bytes:
                # A part of the image that was torn inside a unit fits no checksum of it.
                continue
            run = Run(SCRIPTS[name], durability)
            run.open()
            run.storage.fault = fault
            found = send_with_faults(run, Random(at))
            outcomes.update(found)
            run.storage.fault = None
            close_simulated(run.storage, run.pipeline)
            assert run.storage.live_state() == {IMAGE: run.images[-1]}
            if call.kind == "reserve":
                assert found == ["refused"]
    assert outcomes >= {"refused", "left to the log"}
    assert ("unknown" in outcomes) == (durability == "power")


# -- what else a commit owes to others -------------------------------------------------------------


def test_space_is_asked_for_once_and_again_after_a_wipe():
    messages = [
        Message(2, page("a") | page("b", at=17)),
        Message(2, page("c", at=3) | page("d", at=30)),
        Message(1, page("e"), is_wiped=True),
        Message(2, page("f", at=5) | page("g", at=20)),
    ]
    run = Run(messages, "process")
    run.open()
    asked = []
    for message in messages:
        first = len(run.storage.calls)
        run.send(message)
        calls = run.storage.calls[first:]
        asked.append([call.offset >> 16 for call in calls if call.kind == "reserve"])
    # A wipe gives all blocks back; its own message has asked before that, for what it had.
    assert asked == [[0, 1], [], [], [0, 1]]


def test_whoever_maps_the_image_is_told_before_anything_else_happens_to_it():
    """Touching a map beyond the end of its file kills the process."""
    run = Run(SCRIPTS["wiped and written again"], "process")
    run.open()
    calls = run.storage.calls
    run.pipeline._on_resized = lambda size_bytes: calls.append(("told", size_bytes))
    run.go_on()
    told = [index for index, call in enumerate(calls) if isinstance(call, tuple)]
    assert [calls[index] for index in told] == [
        *(("told", 131_072), ("told", 0), ("told", 65_536)),
        ("told", 131_072),
    ]
    assert (calls[told[1] - 1].kind, calls[told[1] - 1].offset) == ("resize", 0)
