"""Profiles: functions added up over messages, and written for other viewers."""

import json

import pytest
import wasmtime

from sqlstable.errors import SettingsError
from sqlstable.ic.prices import PRICE_REGIMES
from sqlstable.module.function_labels import function_labels
from sqlstable.module.profile import Profile, ProfileNode, ProfileWatcher, programs_with_profile
from sqlstable.replica.replica import Replica
from tests.test_profiled_calls import METHODS, WAYS, instance_of, run

NODES = (
    ProfileNode("app: update add", -1),
    ProfileNode("add", 0, calls=2, instructions=40, heap_regions=1),
    ProfileNode("<T as Into<[u8; 4]>>::into", 1, calls=3, instructions=5),
    ProfileNode("add", 2, calls=3, instructions=100, heap_regions=2, stable_regions=4),
    ProfileNode("ic0.msg_reply", 1, calls=1, instructions=500),
    ProfileNode("app: query get", -1),
    ProfileNode("get", 5, calls=1),
)


def watch(instance, method, watcher, regime):
    status, _, trees = run(instance, method)
    wasm = bytes(wasmtime.wat2wasm(WAYS))
    for tree in trees:
        watcher.note(f"app: update {method}", tree, function_labels(wasm), regime=regime)
    return 10_000_000 - status.counter, status


@pytest.mark.parametrize("regime", sorted(PRICE_REGIMES))
def test_functions_add_up_to_what_their_messages_cost(regime):
    found = PRICE_REGIMES[regime]
    instance = instance_of(WAYS, regime, has_profile=True)
    watcher, instructions, regions = ProfileWatcher(), 0, 0
    for method in METHODS * 2:
        counted, status = watch(instance, method, watcher, found)
        instructions += counted + found.heap_cost(
            wasm_pages_accessed=status.heap_regions_accessed,
            wasm_pages_written=status.heap_regions_written,
            os_pages_written=status.heap_os_pages_written,
        )
        regions += status.heap_regions_accessed + 3 * (method == "touch")
    profile = watcher.profile()
    assert profile.total("instructions") == instructions
    assert profile.total("regions") == regions
    roots = [at for at, node in enumerate(profile.nodes) if node.parent < 0]
    assert len(roots) == len(METHODS)
    assert sum(profile._totals()["instructions"][at] for at in roots) == instructions


def test_names_are_those_of_the_module():
    labels = function_labels(bytes(wasmtime.wat2wasm(WAYS)))
    assert labels[0] == "ic0.msg_reply"
    assert labels[6] == "leaf"
    assert labels[20] == "canister_update ways"
    mangled = (
        '(module (func $_ZN4core3fmt5write17h0123456789abcdefE) (func (export "canister_init")))'
    )
    assert function_labels(bytes(wasmtime.wat2wasm(mangled))) == {
        0: "core::fmt::write",
        1: "canister_init",
    }


def test_a_function_that_calls_itself_counts_once_in_its_total():
    profile = Profile(NODES)
    found = {one.name: one for one in profile.functions()}
    assert [one.name for one in profile.functions()][:2] == ["ic0.msg_reply", "add"]
    add = found["add"]
    assert (add.calls, add.instructions_self, add.instructions_total) == (5, 140, 645)
    assert (add.regions_self, add.regions_total) == (7, 7)
    assert found["<T as Into<[u8; 4]>>::into"].instructions_total == 105
    assert "app: update add" not in found
    assert profile.functions("regions")[0].name == "add"


def test_collapsed_stacks_have_one_path_in_a_line():
    assert Profile(NODES).collapsed() == (
        "app: update add;add 40\n"
        "app: update add;add;<T as Into<[u8, 4]>>::into 5\n"
        "app: update add;add;<T as Into<[u8, 4]>>::into;add 100\n"
        "app: update add;add;ic0.msg_reply 500\n"
    )
    assert Profile(NODES).collapsed("regions") == (
        "app: update add;add 1\napp: update add;add;<T as Into<[u8, 4]>>::into;add 6\n"
    )
    assert Profile(()).collapsed() == ""


def check_speedscope(text):
    """What speedscope's file-format-schema.json demands of a sampled profile."""
    file = json.loads(text)
    assert set(file) <= {"$schema", "shared", "profiles", "name", "activeProfileIndex", "exporter"}
    assert file["$schema"] == "https://www.speedscope.app/file-format-schema.json"
    frames = file["shared"]["frames"]
    assert all(set(frame) <= {"name", "file", "line", "col"} for frame in frames)
    assert all(isinstance(frame["name"], str) for frame in frames)
    assert len({frame["name"] for frame in frames}) == len(frames)
    assert 0 <= file["activeProfileIndex"] < len(file["profiles"])
    for profile in file["profiles"]:
        wanted = {"type", "name", "unit", "startValue", "endValue", "samples", "weights"}
        assert set(profile) == wanted
        assert profile["type"] == "sampled"
        assert profile["unit"] in {
            *("none", "nanoseconds", "microseconds", "milliseconds", "seconds", "bytes"),
        }
        assert len(profile["samples"]) == len(profile["weights"])
        assert all(0 <= at < len(frames) for sample in profile["samples"] for at in sample)
        assert profile["endValue"] - profile["startValue"] == sum(profile["weights"])
    return file


def test_speedscope_gets_two_profiles():
    file = check_speedscope(Profile(NODES).speedscope("a.json"))
    assert [one["name"] for one in file["profiles"]] == ["instructions", "regions"]
    assert [one["endValue"] for one in file["profiles"]] == [645, 7]
    assert file["profiles"][0]["weights"] == [40, 5, 100, 500]
    check_speedscope(Profile(()).speedscope())


def test_the_name_of_a_file_says_its_format(tmp_path):
    profile = Profile(NODES)
    profile.write(tmp_path / "p.json")
    check_speedscope((tmp_path / "p.json").read_text())
    profile.write(tmp_path / "p.folded", "regions")
    assert (tmp_path / "p.folded").read_text() == profile.collapsed("regions")
    with pytest.raises(SettingsError, match="cannot be written"):
        profile.write(tmp_path / "nowhere" / "p.json")


def test_the_table_has_the_first_functions_and_the_sum():
    lines = Profile(NODES).table(1).splitlines()
    assert len(lines) == 3
    assert lines[1].split() == ["500", "78%", "500", "0", "1", "ic0.msg_reply"]
    assert lines[2].split() == ["645", "100%", "7", "all"]
    assert "all" in Profile(()).table()


LIFE = """(module
  (import "ic0" "msg_reply" (func $reply))
  (import "ic0" "stable64_grow" (func $grow (param i64) (result i64)))
  (memory 2)
  (func $work (i32.store (i32.const 70000) (i32.load (i32.const 0))))
  (start $work)
  (func (export "canister_init") (call $work) (drop (call $grow (i64.const 1))))
  (func (export "canister_pre_upgrade") (call $work))
  (func (export "canister_post_upgrade") (call $work))
  (func (export "canister_update add") (call $work) (call $reply))
  (func (export "canister_update fail") (call $work) (unreachable))
  (func (export "canister_query get") (call $work) (call $reply)))"""


def test_a_replica_with_profiles_counts_the_same_and_its_functions_add_up():
    wasm = bytes(wasmtime.wat2wasm(LIFE))
    # Another name for the same function, in the module that follows.
    next_wasm = bytes(wasmtime.wat2wasm(LIFE.replace("$work", "$labour")))
    seen = []
    for has_profile in (False, True):
        program_of = programs_with_profile() if has_profile else None
        replica, watcher = Replica(program_of=program_of), ProfileWatcher()
        replica.watchers.append(watcher)
        replica.create("app")
        done = [
            replica.install("app", wasm),
            *(replica.update("app", method) for method in ("add", "add", "fail")),
            replica.query("app", "get"),
            replica.install("app", next_wasm, mode="upgrade"),
            replica.update("app", "add"),
        ]
        executed = [one for result in done for one in result.executed]
        seen.append([(one.kind, one.instructions, one.status) for one in executed])
        replica.close()
    assert seen[0] == seen[1]
    profile = watcher.profile()
    # Each part of an installation pays for what it touches, be it touched before.
    assert profile.total("instructions") == sum(
        one.instructions + one.heap_instructions for one in executed
    )
    assert [node.name for node in profile.nodes if node.parent < 0] == [
        *("app: install", "app: update add", "app: update fail", "app: query get", "app: upgrade"),
    ]
    upgrade = [node.name for node in profile.nodes].index("app: upgrade")
    assert [node.name for node in profile.nodes[upgrade:]] == [
        *("app: upgrade", "canister_pre_upgrade", "work", "labour"),
        *("canister_post_upgrade", "labour"),
        # The next message adds what it has to paths that are known.
        "labour",
    ]
    add = [node for node in profile.nodes if node.name == "canister_update add"]
    assert [node.calls for node in add] == [3]


@pytest.mark.parametrize("os_page_bytes", [4096, 16_384])
def test_os_pages_of_the_heap_are_charged_by_the_size_that_they_have(os_page_bytes):
    regime = PRICE_REGIMES["wasm-native"]
    program_of = programs_with_profile(regime, os_page_bytes=os_page_bytes)
    replica, watcher = Replica(regime=regime, program_of=program_of), ProfileWatcher()
    replica.watchers.append(watcher)
    replica.create("app")
    replica.install("app", bytes(wasmtime.wat2wasm(WAYS)))
    (executed,) = replica.update("app", "touch").executed
    replica.close()
    assert watcher.profile().total("instructions") == (
        executed.instructions + executed.heap_instructions
    )
    assert executed.heap_instructions == (
        executed.status.heap_os_pages_priced * regime.dirty_heap_os_page
    )
